"""Every row of every clip in exactly one place, for any mix of lengths; and quickly, for a million clips."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimii.table.plan import Layout, choose_layout, make_plan

MIB = 1 << 20
lengths = st.lists(
    st.one_of(st.just(0), st.just(309), st.integers(1, 40), st.integers(300, 5000), st.integers(100_000, 300_000)),
    max_size=40,
)
layouts = st.tuples(st.integers(1, 400), st.integers(1, 6)).map(lambda x: Layout(4, x[0], x[0] * x[1]))
short_lengths = st.lists(st.one_of(st.just(0), st.integers(0, 50), st.integers(200, 2000)), max_size=30)


@given(n_rows=short_lengths, layout=layouts)
def test_every_row_is_in_exactly_one_piece_of_one_shard(n_rows, layout):
    plan = make_plan(n_rows, layout)
    wanted = [(clip, row) for clip, count in enumerate(n_rows) for row in range(count)]
    found = []
    for index in range(plan.n_shards):
        shard = plan.shard(index)
        assert (shard.index, shard.first_row) == (index, len(found))
        for piece in shard.pieces:
            assert shard.first_row + piece.row == len(found)
            found += [(piece.clip, row) for row in range(piece.start, piece.stop)]
        assert shard.n_rows == len(found) - shard.first_row
        assert shard.n_rows == layout.shard_rows or index == plan.n_shards - 1
        assert shard.n_rows > 0
    assert found == wanted


@given(n_rows=lengths, n_features=st.sampled_from([1, 40, 320, 640, 5000]), mib=st.sampled_from([1, 2, 25, 32, 64]))
def test_pieces_are_in_order_without_gaps_for_clips_of_any_length(n_rows, n_features, mib):
    plan = make_plan(n_rows, choose_layout(n_rows, n_features, mib * MIB))
    assert plan.total_rows == sum(n_rows)
    covered = [0] * len(n_rows)
    clips, row = [], 0
    for index in range(plan.n_shards):
        shard = plan.shard(index)
        assert shard.first_row == row
        for piece in shard.pieces:
            assert piece.start == covered[piece.clip]
            assert piece.stop > piece.start
            assert shard.first_row + piece.row == row
            covered[piece.clip] = piece.stop
            clips.append(piece.clip)
            row += piece.stop - piece.start
    assert covered == n_rows
    assert clips == sorted(clips)


@given(n_rows=lengths)
def test_first_rows_are_the_rows_of_all_clips_before(n_rows):
    plan = make_plan(n_rows, Layout(320, 824, 8240))
    assert plan.first_row.tolist() == [sum(n_rows[:clip]) for clip in range(len(n_rows))]
    assert plan.n_rows.tolist() == n_rows
    assert plan.first_row.dtype == np.int64
    assert plan.n_rows.dtype == np.int32


@settings(max_examples=300)
@given(n_rows=lengths, n_features=st.integers(1, 3000), shard_bytes=st.integers(1, 64 * MIB))
def test_chunks_are_of_a_mebibyte_at_least_and_shards_are_whole_chunks(n_rows, n_features, shard_bytes):
    layout = choose_layout(n_rows, n_features, shard_bytes)
    assert layout.n_features == n_features
    assert layout.row_bytes == 4 * n_features
    assert layout.chunk_rows * layout.row_bytes >= MIB
    assert layout.shard_rows >= layout.chunk_rows
    assert layout.shard_rows % layout.chunk_rows == 0
    assert layout.shard_rows == layout.chunk_rows or layout.shard_rows * layout.row_bytes <= shard_bytes


@example(n_rows=[2851], n_features=368)
@given(n_rows=lengths, n_features=st.integers(1, 3000))
def test_chunks_are_of_a_few_mebibytes_at_most_unless_a_row_is_long(n_rows, n_features):
    layout = choose_layout(n_rows, n_features, 32 * MIB)
    assert (layout.chunk_rows - 1) * layout.row_bytes <= 4 * MIB


@example(common=1615, n_clips=8, n_features=649, mib=32)
@given(
    common=st.integers(1, 8000), n_clips=st.integers(1, 60), n_features=st.integers(40, 1000), mib=st.integers(32, 64)
)
def test_clips_of_equal_length_never_straddle_shards(common, n_clips, n_features, mib):
    common = min(common, 4 * MIB // (4 * n_features))
    n_rows = [common] * n_clips
    plan = make_plan(n_rows, choose_layout(n_rows, n_features, mib * MIB))
    for index in range(plan.n_shards):
        for piece in plan.shard(index).pieces:
            assert (piece.start, piece.stop) == (0, common)


def test_ten_second_clips_fill_shards_of_whole_clips_between_25_and_32_mebibytes():
    layout = choose_layout([309] * 100 + [12] * 99, 320, 32 * MIB)
    assert layout.chunk_rows % 309 == 0
    assert layout.shard_rows % 309 == 0
    assert 25 * MIB <= layout.shard_rows * layout.row_bytes <= 32 * MIB


def test_the_layout_does_not_depend_on_the_order_of_clips():
    n_rows = [7, 309, 0, 309, 55, 7, 309]
    assert choose_layout(n_rows, 320, 32 * MIB) == choose_layout(n_rows[::-1], 320, 32 * MIB)


@pytest.mark.parametrize("n_rows", [[], [0], [0, 0, 0]])
def test_without_rows_there_are_no_shards(n_rows):
    plan = make_plan(n_rows, choose_layout(n_rows, 320, 32 * MIB))
    assert (plan.n_shards, plan.total_rows) == (0, 0)
    with pytest.raises(IndexError, match="no shard 0: there are 0"):
        plan.shard(0)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_shard_that_is_not_there_is_refused(index):
    plan = make_plan([10, 10, 10], Layout(320, 5, 10))
    assert plan.n_shards == 3
    with pytest.raises(IndexError, match=f"no shard {index}"):
        plan.shard(index)


def test_a_clip_without_rows_is_in_no_shard():
    plan = make_plan([0, 4, 0, 0, 4, 0], Layout(1, 4, 4))
    assert [[piece.clip for piece in plan.shard(index).pieces] for index in range(2)] == [[1], [4]]


def test_rows_beyond_32_bits_are_counted():
    plan = make_plan(np.full(4, 2**31 - 1, np.int32), Layout(1, 2**30, 2**30))
    assert plan.total_rows == 4 * (2**31 - 1)
    last = plan.shard(plan.n_shards - 1)
    assert last.pieces[-1].stop == 2**31 - 1
    assert last.first_row + last.n_rows == plan.total_rows


MILLION = textwrap.dedent(
    """
    import resource, sys, time
    from mimii.features.decode import Header
    from mimii.recordings.catalogue import make_catalogue
    from mimii.recordings.clips import Clip, identify
    from mimii.storage.disk import DiskObjects
    from mimii.storage.places import Place
    from mimii.recordings.headers import Probe
    from mimii.features.spec import FeatureSpec
    from mimii.recordings.splits import baseline_split, no_split
    from mimii.table.table import make_table, shard_task

    clips, probes = [], []
    header = Header(16_000, 8, 160_000, 80)
    for index in range(1_000_000):
        label = "abnormal" if index % 5 == 0 else "normal"
        path = f"/data/6_dB_fan/fan/id_{index % 100:02d}/{label}/{index:08d}.wav"
        clips.append(Clip(path, Place(path, 2_560_080, str(index)), identify(path)))
        probes.append(Probe(header) if index % 1000 else Probe(None, "empty file"))
    splits = (baseline_split if sys.argv[1] == "baseline" else no_split)(clips)
    started = time.monotonic()
    table = make_table(make_catalogue(clips, probes, splits, FeatureSpec()), 32 << 20)
    n_parts = 0
    for index in range(table.plan.n_shards):
        n_parts += len(shard_task(table, index, DiskObjects("out")).parts)
        if time.monotonic() - started > 60:
            sys.exit(f"after 60 s, {index} of {table.plan.n_shards} shards are planned")
    print(n_parts, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["baseline", "none"])
def test_a_million_clips_are_planned_within_a_minute_and_one_and_a_half_gigabytes(split):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MILLION, split], cwd=root, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    n_parts, peak_bytes = map(int, done.stdout.split())
    assert n_parts == 999_000
    assert peak_bytes < 1.5e9
