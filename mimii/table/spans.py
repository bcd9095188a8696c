"""What a shard is made of: which rows of which clip, of which recording. Its record vouches for this and no more."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Origins, digest
from mimii.features import FeatureSpec
from mimii.table.plan import Layout, RowPlan

FORMAT = 3
"""Counts changes of the store's format or of the kernels' results."""

_PARAMETERS = frozenset(
    {
        *("sample_rate", "channel", "segment", "overlap", "n_fft", "win_length", "hop_length", "n_mels", "fmin"),
        *("fmax", "frames", "stride", "power", "scale", "dtype"),
    }
)
"""The parameters that digests have always had; one that came later is digested where it is not the default."""

Spans = NDArray[Any]
"""An array of `SPAN`: the spans of a shard, in order."""

SPAN = np.dtype(
    [(name, np.int64) for name in ("clip", "start", "stop", "row", "place", "version", "archive", "is_train")]
)
_WHAT_IS_THERE = ["clip", "start", "stop", "row", "place", "version"]
_ALL_BUT_ARCHIVE = [*_WHAT_IS_THERE, "is_train"]


def make_spans(rows: RowPlan, shard: int, origins: Origins, is_train: NDArray[np.bool_]) -> Spans:
    """Return the spans of a shard with their origins, as a record keeps them; IndexError if there is no such shard."""
    rows.check_shard(shard)
    clips, begin = rows.clips_of(shard), shard * rows.layout.shard_rows
    first = rows.first_row[clips]
    made = np.empty(len(clips), SPAN)
    made["clip"], made["start"] = clips, np.maximum(begin - first, 0)
    made["stop"] = np.minimum(begin + rows.layout.shard_rows - first, rows.n_rows[clips])
    made["row"] = first + made["start"]
    for name in ("place", "version", "archive"):
        made[name] = getattr(origins, name)[clips]
    made["is_train"] = is_train[clips]
    return made


def digested_spec(spec: FeatureSpec) -> dict[str, Any]:
    """Return the parameters that digests are of: the same for the same rows, before and after there is another one."""
    usual = type(spec)().as_dict()
    return {name: value for name, value in spec.as_dict().items() if name in _PARAMETERS or value != usual[name]}


def digest_made(spec: FeatureSpec, layout: Layout) -> str:
    """Digest how rows are made, and how they are cut up: what all shards of a table have in common."""
    values = (FORMAT, digested_spec(spec), layout.chunk_rows, layout.shard_rows)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def digest_spans(made: str, spans: Spans) -> str:
    """Digest all that decides the bytes of a shard and of its record."""
    content = np.stack([spans[name] for name in _ALL_BUT_ARCHIVE], axis=1).astype("<i8")
    return hashlib.sha256(made.encode() + content.tobytes()).hexdigest()[:16]


def digest_archives(spans: Spans) -> str:
    """Digest the versions of the archives that recordings are in."""
    return f"{digest(str(sorted(set(spans['archive'].tolist()) - {0}))):x}"


def spans_as_values(spans: Spans) -> list[list[int]]:
    """Return spans as a record keeps them: a list for each."""
    return [list(span) for span in spans.tolist()]


def spans_from_values(values: Mapping[str, Any]) -> Spans | None:
    """Return the spans that a record keeps; None where they are damaged."""
    try:
        return np.array([tuple(span) for span in np.asarray(values["spans"], np.int64).tolist()], SPAN)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def find_same(wanted: Spans, there: Spans) -> NDArray[np.intp]:
    """Return for each wanted span which one of those that are there has the same rows of the same recording, or -1."""
    by_content = {key: index for index, key in enumerate(_keys(there))}
    return np.array([by_content.get(key, -1) for key in _keys(wanted)], np.intp)


def _keys(spans: Spans) -> Iterable[tuple[int, ...]]:
    return zip(*(spans[name].tolist() for name in _WHAT_IS_THERE), strict=True)
