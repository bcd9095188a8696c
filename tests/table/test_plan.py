"""Every row of every clip in exactly one place, for any mix of lengths; and quickly, for many clips."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimii.table.plan import Layout, choose_layout, plan_rows

MIB = 1 << 20
lengths = st.lists(
    st.one_of(st.just(0), st.just(309), st.integers(1, 40), st.integers(300, 5000), st.integers(100_000, 300_000)),
    max_size=40,
)
layouts = st.tuples(st.integers(1, 400), st.integers(1, 6)).map(lambda x: Layout(4, x[0], x[0] * x[1]))
short_lengths = st.lists(st.one_of(st.just(0), st.integers(0, 50), st.integers(200, 2000)), max_size=30)


@given(n_rows=short_lengths, layout=layouts)
def test_every_row_is_in_exactly_one_span_of_one_shard(n_rows, layout):
    plan = plan_rows(n_rows, layout)
    wanted = [(clip, row) for clip, count in enumerate(n_rows) for row in range(count)]
    found = []
    for shard in range(plan.n_shards):
        assert len(found) == shard * layout.shard_rows
        for span in plan.spans(shard):
            assert span.row == len(found)
            found += [(span.clip, row) for row in range(span.start, span.stop)]
        n_rows_of_shard = len(found) - shard * layout.shard_rows
        assert n_rows_of_shard == layout.shard_rows or (shard == plan.n_shards - 1 and n_rows_of_shard > 0)
    assert found == wanted


@given(n_rows=lengths, n_features=st.sampled_from([1, 40, 320, 640, 5000]), mib=st.sampled_from([1, 2, 25, 32, 64]))
def test_spans_are_in_order_without_gaps_for_clips_of_any_length(n_rows, n_features, mib):
    plan = plan_rows(n_rows, choose_layout(n_rows, n_features, mib * MIB))
    assert plan.total_rows == sum(n_rows)
    covered = [0] * len(n_rows)
    clips, row = [], 0
    for shard in range(plan.n_shards):
        assert row == shard * plan.layout.shard_rows
        for span in plan.spans(shard):
            assert span.start == covered[span.clip]
            assert span.n_rows == span.stop - span.start > 0
            assert span.row == row
            covered[span.clip] = span.stop
            clips.append(span.clip)
            row += span.n_rows
    assert covered == n_rows
    assert clips == sorted(clips)


@given(n_rows=short_lengths, layout=layouts)
def test_the_clips_of_a_shard_are_those_of_its_spans(n_rows, layout):
    plan = plan_rows(n_rows, layout)
    for shard in range(plan.n_shards):
        assert plan.clips_of(shard).tolist() == [span.clip for span in plan.spans(shard)]


@given(n_rows=short_lengths, layout=layouts)
def test_each_clip_is_finished_in_the_shard_of_its_last_row(n_rows, layout):
    plan = plan_rows(n_rows, layout)
    last_rows = np.cumsum(n_rows, dtype=int)[np.array(n_rows, int) > 0] - 1
    shards = (last_rows // layout.shard_rows).tolist()
    assert [plan.n_finished(shard) for shard in range(plan.n_shards)] == [
        shards.count(shard) for shard in range(plan.n_shards)
    ]


@given(n_rows=lengths)
def test_first_rows_are_the_rows_of_all_clips_before(n_rows):
    plan = plan_rows(n_rows, Layout(320, 824, 8240))
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
    plan = plan_rows(n_rows, choose_layout(n_rows, n_features, mib * MIB))
    for shard in range(plan.n_shards):
        for span in plan.spans(shard):
            assert (span.start, span.stop) == (0, common)


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
    plan = plan_rows(n_rows, choose_layout(n_rows, 320, 32 * MIB))
    assert (plan.n_shards, plan.total_rows) == (0, 0)
    with pytest.raises(IndexError, match="no shard 0: there are 0"):
        plan.spans(0)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_shard_that_is_not_there_is_refused(index):
    plan = plan_rows([10, 10, 10], Layout(320, 5, 10))
    assert plan.n_shards == 3
    with pytest.raises(IndexError, match=f"no shard {index}"):
        plan.spans(index)


def test_a_clip_without_rows_is_in_no_shard():
    plan = plan_rows([0, 4, 0, 0, 4, 0], Layout(1, 4, 4))
    assert [[span.clip for span in plan.spans(shard)] for shard in range(2)] == [[1], [4]]


def test_rows_beyond_32_bits_are_counted():
    plan = plan_rows(np.full(4, 2**31 - 1, np.int32), Layout(1, 2**30, 2**30))
    assert plan.total_rows == 4 * (2**31 - 1)
    last = plan.spans(plan.n_shards - 1)[-1]
    assert last.stop == 2**31 - 1
    assert last.row + last.n_rows == plan.total_rows


MANY = textwrap.dedent(
    """
    import sys, time
    from mimii.features import FeatureSpec, Header
    from mimii.recordings import Clip, baseline_split, identify, make_catalogue
    from mimii.storage import DiskObjects, Place
    from mimii.table import make_table_plan, shard_task
    from tests.helpers.memory import peak_resident_bytes

    header, clips = Header(16_000, 8, 160_000, 80), []
    for index in range(120_000):
        label = "abnormal" if index % 5 == 0 else "normal"
        path = f"/data/6_dB_fan/fan/id_{index % 100:02d}/{label}/{index:08d}.wav"
        what = {"header": header} if index % 1000 else {"problem": "empty file"}
        clips.append(Clip(path, Place(path, 2_560_080, str(index)), identify(path), **what))
    started = time.process_time()
    plan = make_table_plan(make_catalogue(clips, baseline_split(clips), FeatureSpec()), 32 << 20)
    n_inputs = 0
    for shard in range(plan.rows.n_shards):
        n_inputs += len(shard_task(plan, shard, DiskObjects("out")).inputs)
        if time.process_time() - started > 6:
            sys.exit(f"after 6 s, {shard} of {plan.rows.n_shards} shards are planned")
    print(n_inputs, peak_resident_bytes())
    """
)


@pytest.mark.slow
def test_120000_clips_are_planned_within_seconds_and_220_megabytes():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", MANY], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n_inputs, peak_bytes = map(int, done.stdout.split())
    assert n_inputs == 119_880
    assert peak_bytes < 2.2e8
