"""Mel statistics of the clips of a shard, made again from the rows that are there, where the object is missing."""

import numpy as np

from mimii.engine import Record, from_json, record_key
from mimii.features import FloatArray, mel_statistics, unstack_rows
from mimii.table.columns import MEL_STATISTICS
from mimii.table.encoding import decode_chunk
from mimii.table.keys import RECORDS, mel_key
from mimii.table.spans import Spans, spans_from_values
from mimii.table.table import ShardTask


def make_again(task: ShardTask, record: Record, spans: Spans, rows: FloatArray) -> FloatArray | None:
    """Return the statistics of a shard; shape (n_clips, 3, n_mels). None where too little is there.

    Rows that are rounded, or do not have all frames, are too little.
    A clip that is in other shards, too, has all of its statistics beside each of them.
    """
    if not task.spec.keeps_frames:
        return None
    made = np.full((len(spans), len(MEL_STATISTICS), task.spec.n_mels), np.nan, np.float32)
    first, shard_rows = task.stamp.task * task.layout.shard_rows, task.layout.shard_rows
    for index, span in enumerate(spans):
        begin, n_rows = int(span["row"]) - first, int(span["stop"] - span["start"])
        if int(span["clip"]) in record.bad:
            continue
        before, after = span["start"] > 0, begin + n_rows == shard_rows
        steps = [step for step, is_cut in ((-1, before), (1, after)) if is_cut]
        beside = [found for step in steps if (found := _read_beside(task, step, int(span["clip"]))) is not None]
        if not beside and (before or (after and _goes_on(task, int(span["clip"])))):
            return None
        of_rows = rows[begin : begin + n_rows]
        made[index] = beside[0] if beside else mel_statistics(unstack_rows(of_rows, task.spec.frames))
    return made


def _goes_on(task: ShardTask, clip: int) -> bool:
    spans, _ = _read_spans(task, task.stamp.task + 1)
    return spans is not None and clip in spans["clip"]


def _read_beside(task: ShardTask, step: int, clip: int) -> FloatArray | None:
    """Return the statistics that the shard before or after this one has of a clip."""
    number = task.stamp.task + step
    spans, key = _read_spans(task, number)
    if spans is None or clip not in spans["clip"] or (data := task.output.get(key)) is None:
        return None
    decoded: FloatArray = decode_chunk(data, (len(spans), len(MEL_STATISTICS), task.spec.n_mels))
    of_clip: FloatArray = decoded[spans["clip"].tolist().index(clip)]
    return of_clip


def _read_spans(task: ShardTask, number: int) -> tuple[Spans | None, str]:
    """Return what another shard is made of, and where its statistics are."""
    record = from_json(task.output.get(record_key(RECORDS, number)) or b"")
    if record is None or record.result.get("made") != task.made:
        return None, ""
    return spans_from_values(record.result), mel_key(number, record.stamp.fingerprint)
