"""A table as a dataset of PyTorch: the only file that imports torch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.utils.data

from mimii.table.drawing import Batch, Batches, Drawing, NewRows, Place, count_batches, new_rows
from mimii.table.row_order import rounds, share_of
from mimii.table.row_source import RowSource
from mimii.table.shared_batches import receive, send, sender_of_process

_MOST_WORKERS = 1024


class TorchBatches(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Batches of a table as tensors, for ``DataLoader(dataset, batch_size=None, num_workers=N)``.

    Each iteration is an epoch, in another order than the last one, also in workers that stay. Workers and ranks have
    no shard in common. Ranks yield equally many batches: as many as the one that has the fewest.
    """

    def __init__(self, source: RowSource, drawing: Drawing, rank: int | None, n_ranks: int | None) -> None:
        super().__init__()
        self._source, self._drawing = source, drawing
        self._rank, self._n_ranks = _ranks(rank, n_ranks)
        self._epochs = torch.zeros(_MOST_WORKERS, dtype=torch.int64).share_memory_()  # the next one of each worker
        self._resumed = (-1, 0)

    def __iter__(self) -> "TensorBatches":
        worker, n_workers = _worker()
        epoch = int(self._epochs[worker])
        self._epochs[worker] += 1
        n_given = self._resumed[1] if epoch == self._resumed[0] else 0
        turn = (worker + n_given) % n_workers  # a loader asks worker 0 first, which takes the place of whose turn it is
        counts = [self._count(epoch, one, n_workers) for one in range(n_workers)]
        share = share_of(self._rank, self._n_ranks, turn, n_workers)
        drawing = replace(self._drawing, epochs=epoch + 1, share=share, most=counts[turn])
        found = Batches(self._source, drawing, Place(epoch, rounds(counts, n_given)[turn]), self._memory())
        return TensorBatches(found, self._epochs, worker)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration be this epoch; iterations count by themselves from there."""
        self._epochs.fill_(epoch)

    def resume(self, epoch: int, n_batches: int) -> None:
        """Have the next iteration be the rest of an epoch of which a loader with as many workers gave `n_batches`."""
        self.set_epoch(epoch)
        self._resumed = (epoch, n_batches)

    def _memory(self) -> NewRows:
        """Return what gives memory to batches: in a worker, such that needs no pipe."""
        is_worker = torch.utils.data.get_worker_info() is not None
        sender = sender_of_process(4 * self._drawing.batch_size * self._source.width) if is_worker else None
        return sender.new_rows if sender else new_rows

    def _count(self, epoch: int, worker: int, n_workers: int) -> int:
        """Return the batches that a worker has in each rank."""
        shares = [share_of(rank, self._n_ranks, worker, n_workers) for rank in range(self._n_ranks)]
        return min(count_batches(self._source, self._drawing, epoch, share) for share in shares)


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

    def __init__(self, found: Batches, epochs: torch.Tensor, worker: int) -> None:
        self._found, self._epochs, self._worker = found, epochs, worker

    def __next__(self) -> Batch:
        return _as_tensors(next(self._found))

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator is."""
        return self._found.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another one was."""
        self._found.load_state_dict(state)
        self._epochs[self._worker] = int(state["epoch"]) + 1


def _as_tensors(batch: Batch) -> TensorBatch:
    """Return a batch with tensors that have the memory of its arrays; columns of text stay arrays."""
    features, label, clip = map(torch.from_numpy, batch[:3])
    columns = batch.columns.items()
    return TensorBatch(
        features, label, clip, {name: one if one.dtype == object else torch.from_numpy(one) for name, one in columns}
    )


def _worker() -> tuple[int, int]:
    worker = torch.utils.data.get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)


def _ranks(rank: int | None, n_ranks: int | None) -> tuple[int, int]:
    """Return which rank this is, of how many: as torch.distributed says where it is used."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    n_ranks = n_ranks or (torch.distributed.get_world_size() if is_distributed else 1)
    rank = rank if rank is not None else (torch.distributed.get_rank() if is_distributed else 0)
    if not 0 <= rank < n_ranks:
        msg = f"no rank {rank}: there are {n_ranks}"
        raise ValueError(msg)
    return rank, n_ranks
