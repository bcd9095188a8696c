"""The benchmark of scale, small; and what keeps large jobs cheap: few tasks and few records in memory at a time."""

import json
import os
import re
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from dask.tokenize import tokenize

from jobs.benchmark.simulation import do_nothing, leave_records, make_clips, plan_clips
from jobs.report import summarize
from mimii.engine.cluster import _make_submit
from mimii.engine.outputs import Existing
from mimii.engine.records import each_record, read_records
from mimii.storage.disk import DiskObjects
from mimii.table import store
from mimii.table.plan import choose_layout, make_plan
from mimii.table.statistics import as_json, from_json
from mimii.table.table import shard_task
from tests.helpers.commands import build, plan_table, run
from tests.helpers.recordings import write_machines

N_CLIPS = 20_000
N_TASKS = 239  # of 84 clips, the last one of fewer


@pytest.fixture(scope="module")
def table():
    return plan_clips(make_clips(N_CLIPS))


@pytest.fixture
def output(table, tmp_path):
    """Return the store of a job of which nothing but every third task is missing."""
    objects = DiskObjects(str(tmp_path / "features.zarr"))
    leave_records(table, objects, [task for task in range(table.n_tasks) if task % 3])
    return objects


def numbers(text):
    """Read the rows of a table that are numbers, by the name of the row: one of each column."""
    rows = (re.split(r"  +", line.strip()) for line in text.splitlines())
    return {
        name: [float(cell.replace(",", "")) for cell in cells]
        for name, *cells in rows
        if cells and all(re.fullmatch(r"-?[\d.,]+", cell) for cell in cells)
    }


@pytest.mark.slow
def test_the_simulation_measures_all_steps_and_the_scheduler_knows_few_tasks_at_a_time():
    done = run("benchmark", "--job", "scale", "--clips", N_CLIPS, "--workers", 1, timeout=250)
    assert done.returncode == 0, done.stderr
    rows = numbers(done.stdout)
    assert rows["clips"] == [N_CLIPS]
    assert rows["tasks"] == [N_TASKS]
    assert (
        rows["tasks known to the scheduler, at most"][0] <= 3 * 8
    )  # those under way, those just done, those just sent
    assert rows["scheduler MB, in the end"][0] < rows["scheduler MB, a tenth done"][0] + 64
    assert rows["tasks/s"][0] > 0
    assert 1000 < rows["bytes of a task"][0] < 64_000
    assert rows["99 % done: first new result, s after the plan"] > rows["99 % done: read the records, s"] > [0]


@pytest.mark.slow
def test_with_recordings_the_whole_command_is_timed_on_links_to_them(tmp_path):
    write_machines(tmp_path / "raw", 4, n_samples=16_000)
    done = run(
        *("benchmark", tmp_path / "raw", "--job", "scale", "--clips", 100, 200, "--workers", 1, "--rounds", 1),
        *("--scratch", tmp_path),
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    rows = numbers(done.stdout)
    assert rows["100"][2] == rows["100"][4] == 1
    assert len(rows["200"]) == 5
    assert sorted(os.listdir(tmp_path)) == ["raw"]


def test_several_numbers_of_clips_are_for_scale_alone():
    done = run("benchmark", "--clips", 10, 20, timeout=60)
    assert done.returncode == 2
    assert "--job scale" in done.stderr


def test_made_clips_are_all_different_and_like_those_of_mimii():
    clips = list(make_clips(N_CLIPS))
    assert len({clip.place.url for clip in clips}) == len({clip.identity for clip in clips}) == N_CLIPS
    assert {clip.identity.machine_type for clip in clips} == {"fan", "pump", "slider", "valve"}
    assert {clip.identity.snr_db for clip in clips} == {-6, 0, 6}
    assert {clip.identity.label for clip in clips} == {0, 1}


def test_each_made_clip_has_its_place_in_the_plan(table):
    assert table.plan.total_rows == N_CLIPS * 309
    assert table.n_tasks == N_TASKS
    assert sum(table.n_ended(task) for task in range(table.n_tasks)) == N_CLIPS


@pytest.mark.parametrize("seed", range(8))
def test_the_clips_of_a_shard_are_those_of_its_pieces(seed):
    random = np.random.default_rng(seed)
    lengths = random.choice([0, 0, 1, 3, 309, 700], size=60)
    lengths[random.integers(60)] = 5
    plan = make_plan(lengths, choose_layout(lengths, 320, 1 << 20))
    for index in range(plan.n_shards):
        pieces = plan.shard(index).pieces
        assert plan.clips_of(index).tolist() == [piece.clip for piece in pieces]
        assert plan.n_ended(index) == sum(piece.stop == lengths[piece.clip] for piece in pieces)


def test_records_come_in_the_order_of_the_tasks_and_those_that_are_missing_are_left_out(table, output):
    found = list(each_record(output, table))
    assert [task for task, _ in found] == [task for task in range(N_TASKS) if task % 3]
    assert [record.stamp.task for _, record in found] == [task for task, _ in found]
    assert dict(found) == read_records(output, table)


def test_the_records_of_a_table_are_read_without_keeping_their_sums(table, output):
    whole = read_records(output, table)
    tracemalloc.start()
    try:
        found = store.read_records(output, table)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == {task: replace(record, result={}) for task, record in whole.items()}
    assert kept / len(found) < 3000  # the sums alone are 640 numbers


def test_the_statistics_are_those_of_the_sums_of_all_records(tmp_path):
    write_machines(tmp_path / "raw", 12, n_samples=80_000)
    table = plan_table(tmp_path / "raw")
    objects = DiskObjects(str(build(table, tmp_path / "out")))
    parts = [from_json(record.result) for record in read_records(objects, table).values()]
    assert len(parts) > 1
    total, count = sum(part.total for part in parts), sum(part.count for part in parts)
    assert np.array_equal(store.read_columns(objects).feature_mean, total / count)
    assert json.loads(json.dumps(as_json(parts[0])))["count"] == parts[0].count


def test_a_store_that_lacks_any_of_its_small_objects_is_not_finished(tmp_path):
    write_machines(tmp_path / "raw", 12)
    table = plan_table(tmp_path / "raw")
    built = build(table, tmp_path / "out")
    objects = DiskObjects(str(built))
    existing, done = store.look(objects), store.read_records(objects, table)
    assert store.is_finished(objects, existing, table, done)
    assert not store.is_finished(objects, Existing("table", {}, finished=False), table, done)
    for key in objects.sizes():
        if "records" not in key and not re.search(r"(features|row_clip)/c\.", key):
            shutil.move(built / key, tmp_path / "away")
            assert not store.is_finished(objects, existing, table, done), key
            shutil.move(tmp_path / "away", built / key)
    assert store.is_finished(objects, existing, table, done)


def test_a_run_counts_each_clip_once_that_straddles_two_shards(tmp_path):
    write_machines(tmp_path / "raw", 4, n_samples=1_000_000)
    table = plan_table(tmp_path / "raw")
    assert sum(len(table.clips_of(task)) for task in range(table.n_tasks)) > 4
    run_of_all = summarize(table, "out", {}, range(table.n_tasks), 1.0)
    assert run_of_all.clips_computed == 4
    assert run_of_all.bytes_read == sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*.wav"))
    assert summarize(table, "out", {}, [], 1.0).clips_computed == 0


class _Client:
    """Keeps what it is asked to map."""

    def map(self, _function, calls, **_how):
        self.calls = calls
        return [object() for _ in calls]


def test_dask_tells_calls_apart_without_looking_into_their_tasks(table, output):
    client = _Client()
    tasks = [shard_task(table, 0, output)] * 2
    attempts = [type("Attempt", (), {"task": task, "n_careful": 0})() for task in tasks]
    _make_submit(client, do_nothing, None)(attempts)
    assert len({tokenize(call) for call in client.calls}) == 2
    assert tokenize(client.calls[0]) == tokenize(replace(client.calls[0], task="another"))
