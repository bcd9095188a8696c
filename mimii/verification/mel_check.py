"""Whether the columns of mel statistics hold what the tasks have left of each clip."""

from collections.abc import Iterator, Mapping

import numpy as np

from mimii.features import FeatureSpec
from mimii.storage import Objects, have, numbered
from mimii.table import (
    CLIPS_A_CHUNK,
    MEL_CHUNKS,
    MEL_STATISTICS,
    RowPlan,
    StatisticsError,
    collect_chunk,
    decode_chunk,
    describe_chunks,
    mel_chunk_key,
)
from mimii.verification.contents import Contents
from mimii.verification.metadata import Checked, Finding


def check_mel_columns(
    contents: Contents, rows: RowPlan, fingerprints: Mapping[int, str], left: Mapping[int, str]
) -> list[Checked]:
    """Compare the columns of mel statistics, chunk by chunk, with what the tasks of all shards have left."""
    n_mels, noted = contents.store.spec.n_mels, contents.attributes.get(MEL_CHUNKS) or []
    expected = list(describe_chunks(rows, n_mels, left))
    if noted != expected:
        problem = "shards have changed since the table was finished: an update is not; run the same command again"
        return [Checked("finished", 0, (Finding("finished", contents.store.objects.root, problem),))]
    found = [
        finding
        for chunk in range(len(expected))
        for finding in _compare(contents.store.objects, rows, contents.store.spec, chunk, fingerprints)
    ]
    return [Checked("mel", 0, tuple(found))]


def _compare(
    objects: Objects, rows: RowPlan, spec: FeatureSpec, chunk: int, fingerprints: Mapping[int, str]
) -> Iterator[Finding]:
    """Compare one chunk of each statistic."""
    keys = [mel_chunk_key(name, chunk) for name in MEL_STATISTICS]
    there = objects.get_all(keys)
    try:
        wanted = collect_chunk(objects, rows, spec, chunk, fingerprints)
    except StatisticsError:
        return  # the check of the shard's bytes has said so
    for key, values in zip(keys, wanted, strict=True):
        if key in there and (problem := _problem(there[key], values)):
            yield Finding("mel", key, problem, delete=key)


def _problem(data: bytes, wanted: np.ndarray) -> str:
    try:
        values = decode_chunk(data, (CLIPS_A_CHUNK, wanted.shape[1]))
    except ValueError as error:
        return f"cannot be read: {error}"
    differ = np.flatnonzero(~((values == wanted) | (np.isnan(values) & np.isnan(wanted))).all(axis=1))
    n = len(differ)
    return f"{numbered(n, 'clip')} {have(n)} other statistics than their rows, the first is {differ[0]}" if n else ""
