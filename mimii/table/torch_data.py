"""A table as a dataset of PyTorch: the only file that imports torch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.utils.data

from mimii.storage import numbered
from mimii.table.drawing import (
    Batch,
    Batches,
    Drawing,
    NewRows,
    Place,
    count_batches,
    count_items_of_shards,
    new_rows,
)
from mimii.table.row_order import Share, equal_counts, next_worker, rounds, share_of
from mimii.table.row_source import RowSource
from mimii.table.shared_batches import receive, send, sender_of_process
from mimii.table.shared_epochs import SharedEpochs, Start, Worker


class TorchBatches(torch.utils.data.IterableDataset):  # type: ignore[misc]  # types are checked without PyTorch
    """Batches of a table as tensors, for ``DataLoader(dataset, batch_size=None, num_workers=N)``.

    Each iteration is an epoch, in another order than the last one, also in workers that stay. Workers and ranks have
    no shard in common. Ranks yield equally many batches: as many as the one that has the fewest.
    """

    def __init__(self, source: RowSource, drawing: Drawing, rank: int | None, n_ranks: int | None) -> None:
        super().__init__()
        self._source, self._drawing = source, drawing
        self._rank, self._n_ranks = _ranks(rank, n_ranks)
        self._items = count_items_of_shards(source)
        _check_ranks(len(self._items), self._n_ranks)
        self._epochs = SharedEpochs()

    def __iter__(self) -> "TensorBatches":
        worker = _worker()
        start, n_workers = self._epochs.begin(worker), max(1, worker.total)
        counts = self._counts(start.epoch, n_workers)
        # A loader asks its worker 0 first. Behind some batches, that has the place of the worker whose turn it is.
        place = (next_worker(counts, start.n_done) + worker.number) % n_workers
        share = share_of(self._rank, self._n_ranks, place, n_workers)
        return TensorBatches(self, share, Place(start.epoch, rounds(counts, start.n_done)[place]))

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration be this epoch; iterations count by themselves from there."""
        self._epochs.set_next(Start(epoch))

    def resume(self, epoch: int, n_batches: int) -> None:
        """Have the next iteration be the rest of an epoch of which a loader with as many workers gave `n_batches`."""
        self._epochs.set_next(Start(epoch, n_batches))

    def draw(self, share: Share, place: Place) -> Batches:
        """Return the batches of a share of this rank, behind a place in an epoch."""
        counts = self._counts(place.epoch, share.total // self._n_ranks)
        most = counts[share.number // self._n_ranks]
        drawing = replace(self._drawing, epochs=place.epoch + 1, share=share, most=most)
        return Batches(self._source, drawing, place, self._memory())

    def share_in(self, state: Mapping[str, Any], own: Share) -> Share:
        """Return the share that a state is of, where this rank has it with as many workers; else the own one."""
        number, total = state.get("share", own)
        is_of_rank = total == own.total and number in range(self._rank, total, self._n_ranks)
        return Share(number, total) if is_of_rank else own

    def _memory(self) -> NewRows:
        """Return what gives memory to batches: in a worker, such that needs no pipe."""
        is_worker = torch.utils.data.get_worker_info() is not None
        sender = sender_of_process(4 * self._drawing.batch_size * self._source.width) if is_worker else None
        return sender.new_rows if sender else new_rows

    def _counts(self, epoch: int, n_workers: int) -> list[int]:
        """Return how many batches each worker of this rank gives in an epoch."""
        counts = count_batches(self._items, self._drawing, epoch, self._n_ranks * n_workers)
        return equal_counts([counts[rank :: self._n_ranks] for rank in range(self._n_ranks)])[self._rank]


class TensorBatch(Batch):
    """A batch as tensors. From a worker it comes in memory that is shared, and not as tensors in files of their own."""

    __slots__ = ()


def _reduce(batch: TensorBatch) -> tuple[Any, ...]:
    """Return what a batch is to another process."""
    features, label, clip, columns = batch
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    return _rebuild, (send(np.asarray(features)), np.asarray(label), np.asarray(clip), arrays)


def _rebuild(features: Any, *others: Any) -> TensorBatch:  # noqa: ANN401  what `_reduce` returns
    return _as_tensors(Batch(receive(features), *others))


ForkingPickler.register(TensorBatch, _reduce)


class TensorBatches(Iterator[Batch]):
    """Batches as tensors; torchdata's StatefulDataLoader saves and loads where it is."""

    def __init__(self, dataset: TorchBatches, share: Share, place: Place) -> None:
        self._dataset, self._share = dataset, share
        self._found = dataset.draw(share, place)

    def __next__(self) -> Batch:
        return _as_tensors(next(self._found))

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator is."""
        return self._found.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another one was, and have the next iteration be the epoch behind it."""
        share, epoch = self._dataset.share_in(state, self._share), int(state.get("epoch", 0))
        found = self._dataset.draw(share, Place(epoch, 0))
        found.load_state_dict(state)
        self._found.close()
        self._found, self._share = found, share
        self._dataset.set_epoch(epoch + 1)


def _as_tensors(batch: Batch) -> TensorBatch:
    """Return a batch with tensors that have the memory of its arrays; columns of text stay arrays."""
    features, label, clip = map(torch.from_numpy, batch[:3])
    columns = batch.columns.items()
    return TensorBatch(
        features, label, clip, {name: one if one.dtype == object else torch.from_numpy(one) for name, one in columns}
    )


def _worker() -> Worker:
    worker = torch.utils.data.get_worker_info()
    return Worker(0, 0, 0) if worker is None else Worker(worker.id, worker.num_workers, worker.seed - worker.id)


def _check_ranks(n_shards: int, n_ranks: int) -> None:
    """Refuse more ranks than shards: ranks yield equally many batches, so all would yield none."""
    if 0 < n_shards < n_ranks:
        msg = (
            f"{n_ranks} ranks cannot share {numbered(n_shards, 'shard')}, each needs one: use fewer ranks, "
            "or a table of smaller shards (jobs.featurize --shard-mib)"
        )
        raise ValueError(msg)


def _ranks(rank: int | None, n_ranks: int | None) -> tuple[int, int]:
    """Return which rank this is, of how many: as torch.distributed says where it is used."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    n_ranks = n_ranks or (torch.distributed.get_world_size() if is_distributed else 1)
    rank = rank if rank is not None else (torch.distributed.get_rank() if is_distributed else 0)
    if not 0 <= rank < n_ranks:
        msg = f"no rank {rank}: there are {n_ranks}"
        raise ValueError(msg)
    return rank, n_ranks
