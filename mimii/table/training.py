"""Read a table for training: its rows or single frames in batches, shuffled, from a table that may exceed the memory.

pandas and torch are imported where they are used.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.recordings import GOOD, TEST, TRAIN
from mimii.storage import DEFAULT_ACCESS, Access, Location, Objects, as_path, numbered
from mimii.table.drawing import N_THREADS, POOL_MIB, Batches, Drawing
from mimii.table.keys import FEATURES, metadata_key
from mimii.table.reading import (
    DAMAGED,
    damaged_column,
    metadata_of_arrays,
    open_store,
    read_array,
    read_clip_columns,
    read_dimensions,
    read_finished,
    read_layout,
)
from mimii.table.row_source import RowSource, Scale

if TYPE_CHECKING:
    import pandas as pd

    from mimii.table.torch_data import TorchBatches

_NEEDED = ("split", "status", "label", "first_row", "n_rows")
_CHOSEN = "where must be True or False for each of the {:,} clips"

Selection = NDArray[np.bool_] | Sequence[bool] | Callable[["pd.DataFrame"], Any] | None


def batches(  # noqa: PLR0913  each is a choice that users have
    url: Location,
    *,
    split: str | None = "train",
    where: Selection = None,
    batch_size: int = 512,
    shuffle: bool = True,
    seed: int = 0,
    normalize: bool = False,
    columns: str | Sequence[str] = (),
    epochs: int | None = 1,
    threads: int = N_THREADS,
    pool_mib: int = POOL_MIB,
    access: Access = DEFAULT_ACCESS,
) -> Batches:
    """Return an iterator over the rows of a split in batches, shuffled; the table may be larger than memory.

    Each row of the split's good clips comes once an epoch, and no other. Shards are read ahead in threads, in random
    order; a batch is drawn from a pool of decoded chunks of many shards. In memory are `pool_mib` of decoded rows, and
    some 20 shards as they are stored, 6 MB each with the default features. docs/train.md says how well this mixes.

    Parameters
    ----------
    url : str or path
        A folder, or ``s3://bucket/prefix``.
    split : str or None
        ``"train"``, ``"test"``, empty for clips that are in neither, or None for all clips.
    where : ndarray of bool, shape (n_clips,), or function
        Which of these clips: a mask over the clips of the table, or a function that takes the clips as a
        pandas.DataFrame and returns the mask, such as ``lambda clips: clips.machine_type == "fan"``.
    batch_size : int
        Rows in a batch; the last one of an epoch may have fewer.
    shuffle : bool
        Random order, another one each epoch; else that of the table.
    seed : int
        Not negative. The same seed is the same order.
    normalize : bool
        Subtract the table's ``feature_mean`` and divide by its ``feature_std``.
    columns : str or sequence of str
        Columns over clips that each batch has for its rows, such as ``["machine_id"]``.
    epochs : int or None
        How often all rows come; None is without end.
    threads : int
        How many decode; others fetch.
    pool_mib : int
        Memory for decoded rows; more of it mixes better.
    access : Access
        How to connect to S3.

    Returns
    -------
    Batches
        An iterator of `Batch`: ``features`` (float32, dB), ``label``, ``clip`` and ``columns``, for `epochs`
        epochs. ``state_dict`` and ``load_state_dict`` resume it bit for bit; ``len`` is the batches of an epoch.

    Raises
    ------
    StoreError
        If there is no table, or it is not finished.
    ValueError, TypeError
        If there is no such split, no good clip is in it, a number makes no sense, or `where` is no mask.
    KeyError
        If there is no such column.
    OSError
        While it is iterated: if a shard is missing or damaged; the message names it.

    """
    drawing = make_drawing(batch_size, seed, epochs, threads, pool_mib, shuffle=shuffle)
    source = open_source(as_path(url), access, split, where, columns, normalize=normalize, single_frames=False)
    return Batches(source, drawing)


def frames(  # noqa: PLR0913  as `batches`
    url: Location,
    *,
    split: str | None = "train",
    where: Selection = None,
    batch_size: int = 512,
    shuffle: bool = True,
    seed: int = 0,
    normalize: bool = False,
    columns: str | Sequence[str] = (),
    epochs: int | None = 1,
    threads: int = N_THREADS,
    pool_mib: int = POOL_MIB,
    access: Access = DEFAULT_ACCESS,
) -> Batches:
    """Return an iterator over the single frames of a split in batches: as `batches`, of what rows are made of.

    Each frame comes once, although several rows have it; each shard is decoded once. Frames that are in no row, with a
    ``stride`` above ``frames``, are not there.

    Parameters
    ----------
    url, split, where, batch_size, shuffle, seed, columns, epochs, threads, pool_mib, access
        As in `batches`; `batch_size` counts frames.
    normalize : bool
        Subtract the mean of each mel band and divide by its deviation, over ``feature_mean`` and ``feature_std`` of all
        frames of a row.

    Returns
    -------
    Batches
        An iterator of `Batch` whose ``features`` have the shape (n, n_mels).

    Raises
    ------
    StoreError, ValueError, KeyError, OSError
        As `batches`.

    """
    drawing = make_drawing(batch_size, seed, epochs, threads, pool_mib, shuffle=shuffle)
    source = open_source(as_path(url), access, split, where, columns, normalize=normalize, single_frames=True)
    return Batches(source, drawing)


def torch_dataset(  # noqa: PLR0913  as `batches`
    url: Location,
    *,
    split: str | None = "train",
    where: Selection = None,
    batch_size: int = 512,
    shuffle: bool = True,
    seed: int = 0,
    normalize: bool = False,
    columns: str | Sequence[str] = (),
    single_frames: bool = False,
    rank: int | None = None,
    n_ranks: int | None = None,
    threads: int = N_THREADS,
    pool_mib: int = POOL_MIB,
    access: Access = DEFAULT_ACCESS,
) -> "TorchBatches":
    """Return a table as an IterableDataset of PyTorch that yields whole batches of tensors.

    ``torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=N)``; it is fastest without workers, since it
    reads ahead in threads by itself. Each iteration is an epoch. Workers and ranks share the shards: none is read by
    two. Each worker has a pool of its own.

    Parameters
    ----------
    url, split, where, batch_size, shuffle, seed, normalize, columns, threads, pool_mib, access
        As in `batches`.
    single_frames : bool
        Yield single frames, as `frames`.
    rank, n_ranks : int
        Which process of how many this is in a distributed run; as torch.distributed says where they are left out.

    Returns
    -------
    torch.utils.data.IterableDataset
        It yields `Batch`, with tensors. ``set_epoch(epoch)`` chooses the next epoch, ``resume(epoch, n_batches)`` what
        is behind the batches that a loader has given of it.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    StoreError, ValueError, KeyError, OSError
        As `batches`; ValueError also if there are more ranks than shards.

    """
    try:
        from mimii.table.torch_data import TorchBatches
    except ImportError as error:
        msg = f"torch_dataset needs PyTorch, which cannot be imported ({error}); mimii.batches needs none"
        raise ImportError(msg) from error
    drawing = make_drawing(batch_size, seed, None, threads, pool_mib, shuffle=shuffle)
    how = {"normalize": normalize, "single_frames": single_frames}
    return TorchBatches(open_source(as_path(url), access, split, where, columns, **how), drawing, rank, n_ranks)


def make_drawing(
    batch_size: int, seed: int, epochs: int | None, threads: int, pool_mib: int, *, shuffle: bool
) -> Drawing:
    """Return how batches are drawn; ValueError where a number makes no sense."""
    least = {"batch_size": (batch_size, 1), "threads": (threads, 1), "pool_mib": (pool_mib, 1), "seed": (seed, 0)}
    for name, (value, bound) in {**least, "epochs": (1 if epochs is None else epochs, 1)}.items():
        if value < bound:
            msg = f"{name} must be at least {bound}, not {value}"
            raise ValueError(msg)
    return Drawing(batch_size, shuffle, seed, epochs, pool_bytes=pool_mib << 20, n_threads=threads)


def open_source(  # noqa: PLR0913  those of `batches`
    url: str,
    access: Access,
    split: str | None,
    where: Selection,
    columns: str | Sequence[str],
    *,
    normalize: bool,
    single_frames: bool,
) -> RowSource:
    """Return what is read of a table; ValueError where no clip is chosen."""
    if split not in (TRAIN, TEST, "", None):
        msg = f"split must be 'train', 'test', '' for clips in neither, or None for all, not {split!r}"
        raise ValueError(msg)
    table = open_store(url, access)
    finished = read_finished(table)
    metadata, spec = metadata_of_arrays(finished.document), FeatureSpec(**finished.attributes["spec"])
    asked = [columns] if isinstance(columns, str) else list(columns)
    dimensions = read_dimensions(metadata) if callable(where) else {}
    for_where = [name for name, of_array in dimensions.items() if of_array == ["clip"]]
    clips = read_clip_columns(table, metadata, dict.fromkeys([*for_where, *_NEEDED, *asked]))
    return RowSource(
        objects=table,
        fingerprint=str(finished.attributes.get("fingerprint")),
        layout=read_layout(metadata[metadata_key(FEATURES)]),
        spec=spec,
        first_row=clips["first_row"].astype(np.int64),
        n_rows=clips["n_rows"],
        wanted=_choose(table.root, clips, split, where),
        label=clips["label"],
        columns={name: clips[name] for name in asked},
        scale=_read_scale(table, metadata, spec, single_frames=single_frames) if normalize else None,
        single_frames=single_frames,
    )


def _choose(root: str, clips: Mapping[str, NDArray[Any]], split: str | None, where: Selection) -> NDArray[np.bool_]:
    is_good: NDArray[np.bool_] = (clips["status"] == GOOD) & (clips["n_rows"] > 0)
    in_split = is_good if split is None else is_good & (clips["split"] == split)
    if not in_split.any():
        there = Counter(clips["split"][is_good].tolist())
        msg = f"{root}: {_describe_none(split, there)}"
        raise ValueError(msg)
    if where is None:
        return in_split
    wanted = in_split & _as_mask(where(_as_frame(clips)) if callable(where) else where, len(is_good))
    if not wanted.any():
        of_split = "" if split is None else f" of the split {split!r}"
        n_clips = int(np.count_nonzero(in_split))
        msg = f"{root}: where selects none of the {numbered(n_clips, 'good clip')}{of_split}"
        raise ValueError(msg)
    return wanted


def _describe_none(split: str | None, there: Mapping[str, int]) -> str:
    if not there:
        return "no clip can be used; python -m jobs.verify and the column status say why"
    found = ", ".join(f"{n_clips:,} with {name!r}" for name, n_clips in sorted(there.items()))
    return f"no good clip has the split {split!r}; there are {found}. Pass another split, or split=None for all clips"


def _as_mask(given: Any, n_clips: int) -> NDArray[np.bool_]:  # noqa: ANN401  what users give
    mask = np.asarray(given)
    if mask.shape != (n_clips,):
        msg = f"{_CHOSEN.format(n_clips)}; its shape is {mask.shape}"
        raise ValueError(msg)
    if mask.dtype != bool:
        msg = f"{_CHOSEN.format(n_clips)}, not {mask.dtype}"
        raise TypeError(msg)
    return mask


def _as_frame(clips: Mapping[str, NDArray[Any]]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame({name: column for name, column in clips.items() if column.ndim == 1})
    if "recorded_at" in frame:
        frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], unit="s")
    return frame


def _read_scale(table: Objects, metadata: Mapping[str, bytes], spec: FeatureSpec, *, single_frames: bool) -> Scale:
    """Read mean and deviation; where all values are the same, the deviation is 1."""
    try:
        mean, std = (read_array(table, f"feature_{what}", metadata) for what in ("mean", "std"))
    except DAMAGED as error:
        raise damaged_column(table, error) from error
    if single_frames:
        mean, std = (values.reshape(spec.frames, spec.n_mels) for values in (mean, std))
        mean, std = mean.mean(axis=0), np.sqrt((std**2).mean(axis=0) + mean.var(axis=0))
    return Scale(mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32))
