"""What a shard is made of: which rows of which clip, of which recording. Its record vouches for this and no more."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.recordings import Clip
from mimii.storage import Place
from mimii.table.plan import Layout, RowPlan

FORMAT = 2
"""Counts changes of the store's format or of the kernels' results."""

Spans = NDArray[Any]
"""An array of `SPAN`: the spans of a shard, in order."""

SPAN = np.dtype(
    [(name, np.int64) for name in ("clip", "start", "stop", "row", "place", "version", "archive", "is_train")]
)
_WHAT_IS_THERE = ["clip", "start", "stop", "row", "place", "version"]
_ALL_BUT_ARCHIVE = [*_WHAT_IS_THERE, "is_train"]


@dataclass(frozen=True, slots=True)
class Origins:
    """Which recording each clip is of, as digests: where it is, which version of it, and which one of its archive.

    Attributes
    ----------
    place, version, archive : ndarray of int64, shape (n_clips,)
        Digests; that of an archive is 0 where there is none.

    """

    place: NDArray[np.int64]
    version: NDArray[np.int64]
    archive: NDArray[np.int64]

    def __add__(self, other: "Origins") -> "Origins":
        """Return these, and others behind them."""
        pairs = ((self.place, other.place), (self.version, other.version), (self.archive, other.archive))
        return Origins(*(np.concatenate(pair) for pair in pairs))


def find_origins(clips: Sequence[Clip]) -> Origins:
    """Return the origins of clips."""
    places = [clip.place for clip in clips]
    columns = ([digest(str(one)) for one in places], map(digest_version, places), map(_digest_archive, places))
    return Origins(*(np.fromiter(column, np.int64, len(clips)) for column in columns))


def digest(text: str) -> int:
    """Return 63 bits of a hash."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def digest_version(place: Place) -> int:
    """Return what changes when a recording changes: a digest of its size and version."""
    return digest(f"{place.size} {place.version}")


def _digest_archive(place: Place) -> int:
    return _digest_often(place.member.archive_version) if place.member else 0


_digest_often = lru_cache(maxsize=1024)(digest)


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


def digest_made(spec: FeatureSpec, layout: Layout) -> str:
    """Digest how rows are made, and how they are cut up: what all shards of a table have in common."""
    values = (FORMAT, spec.as_dict(), layout.chunk_rows, layout.shard_rows)
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
