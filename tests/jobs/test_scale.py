"""The benchmark of scale, small; and what keeps large jobs cheap: few tasks and few records in memory at a time."""

import os
import re
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from dask.tokenize import tokenize

from jobs.benchmark.simulation import SilentTable, make_clips, plan_clips
from jobs.words import format_bytes
from mimii.engine import compare, look, outputs, read_records
from mimii.engine.partitions import Attempt
from mimii.recordings import no_split
from mimii.storage import DiskObjects
from mimii.table import open_table, plan_rows
from mimii.table.plan import choose_layout
from mimii.table.statistics import add_sums, from_values, mean_and_std
from tests.helpers.commands import build, featurize_here, output_at, plan_table, records_at, run_here
from tests.helpers.recordings import write_machines

N_CLIPS = 20_000
N_TASKS = 239  # of 84 clips, the last one of fewer


@pytest.fixture(scope="module")
def plan():
    return plan_clips(make_clips(N_CLIPS))


@pytest.fixture
def output(plan, tmp_path):
    """Return the output of a job in which every third task is missing."""
    table = SilentTable(plan, DiskObjects(str(tmp_path / "features.zarr")))
    table.write_records(task for task in range(table.n_tasks) if task % 3)
    return table


def numbers(text):
    """Read the rows of a table that are numbers, by the name of the row: one of each column."""
    rows = (re.split(r"  +", line.strip()) for line in text.splitlines())
    return {
        name: [float(cell.replace(",", "")) for cell in cells]
        for name, *cells in rows
        if cells and all(re.fullmatch(r"-?[\d.,]+", cell) for cell in cells)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("programs_here")
def test_the_simulation_measures_all_steps_and_the_scheduler_knows_few_tasks_at_a_time():
    n_clips, n_tasks = 2_520, 30
    done = run_here("benchmark", "--job", "scale", "--clips", n_clips, "--workers", 1)
    assert done.returncode == 0, done.stderr
    rows = numbers(done.stdout)
    assert rows["clips"] == [n_clips]
    assert rows["tasks"] == [n_tasks]
    assert rows["tasks known to the scheduler, at most"][0] <= 3 * 8  # under way, just finished, just sent
    assert rows["scheduler MB, at the end"][0] < rows["scheduler MB, a tenth done"][0] + 64
    assert rows["tasks/s"][0] > 0
    assert 1000 < rows["bytes of a task"][0] < 64_000
    assert rows["99 % done: first new result, s after the plan"] > rows["99 % done: read the records, s"] >= [0]


@pytest.mark.usefixtures("programs_here")
def test_with_recordings_the_whole_command_is_timed_on_links_to_them(tmp_path):
    write_machines(tmp_path / "raw", 4, n_samples=16_000)
    done = run_here(
        *("benchmark", tmp_path / "raw", "--job", "scale", "--clips", 100, 200, "--workers", 1, "--rounds", 1),
        *("--scratch", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    rows = numbers(done.stdout)
    assert rows["100"][2] == rows["100"][4] == 1
    assert len(rows["200"]) == 5
    assert sorted(os.listdir(tmp_path)) == ["raw"]


def test_several_numbers_of_clips_are_for_scale_alone():
    done = run_here("benchmark", "--clips", 10, 20)
    assert done.returncode == 2
    assert "--job scale" in done.stderr


def test_made_clips_are_all_different_and_like_those_of_mimii():
    clips = list(make_clips(N_CLIPS))
    assert len({clip.place.url for clip in clips}) == len({clip.identity for clip in clips}) == N_CLIPS
    assert {clip.identity.machine_type for clip in clips} == {"fan", "pump", "slider", "valve"}
    assert {clip.identity.snr_db for clip in clips} == {-6, 0, 6}
    assert {clip.identity.label for clip in clips} == {0, 1}


def test_each_made_clip_has_its_place_in_the_plan(plan, output):
    assert plan.rows.total_rows == N_CLIPS * 309
    assert output.n_tasks == N_TASKS
    assert sum(map(output.n_clips, range(output.n_tasks))) == N_CLIPS


@pytest.mark.parametrize("seed", range(8))
def test_the_clips_of_a_shard_are_those_of_its_spans(seed):
    random = np.random.default_rng(seed)
    lengths = random.choice([0, 0, 1, 3, 309, 700], size=60)
    lengths[random.integers(60)] = 5
    rows = plan_rows(lengths, choose_layout(lengths, 320, 1 << 20))
    for shard in range(rows.n_shards):
        spans = rows.spans(shard)
        assert rows.clips_of(shard).tolist() == [span.clip for span in spans]
        assert rows.n_finished(shard) == sum(span.stop == lengths[span.clip] for span in spans)


def test_records_come_in_the_order_of_the_tasks_and_those_that_are_missing_are_left_out(output):
    found = read_records(output)
    assert list(found) == [task for task in range(N_TASKS) if task % 3]
    assert [record.stamp.task for record in found.values()] == list(found)


def test_records_in_memory_are_small(output):
    sizes = output.objects.sizes()
    tracemalloc.start()
    try:
        found = outputs.find_listed(output, sizes).records
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / len(found) < 18_000  # 640 sums and 84 spans of 8 numbers, of 8 bytes; as Python objects twice as much


def test_the_statistics_are_those_of_the_sums_of_all_records(tmp_path):
    write_machines(tmp_path / "raw", 12, n_samples=80_000)
    plan = plan_table(tmp_path / "raw", split=no_split)
    table = open_table(str(build(plan, tmp_path / "out")))
    records = records_at(plan, tmp_path / "out").values()
    parts = [from_values(record.result["other"]) for record in records]
    assert len(parts) > 1
    mean, std = mean_and_std(add_sums(parts, plan.catalogue.spec.n_features))
    assert np.array_equal(table.feature_mean, mean)
    assert np.array_equal(table.feature_std, std)


def test_a_store_that_lacks_any_of_its_small_objects_is_not_whole(tmp_path):
    write_machines(tmp_path / "raw", 12)
    plan = plan_table(tmp_path / "raw")
    output = output_at(plan, build(plan, tmp_path / "out"))
    assert compare(output, look(output.objects, output.head))[1]
    for key in output.objects.sizes().keys() - {"zarr.json"}:
        if "records" not in key and not re.search(r"(features|row_clip)/c\.", key):
            shutil.move(tmp_path / "out" / key, tmp_path / "away")
            assert not compare(output, look(output.objects, output.head))[1], key
            shutil.move(tmp_path / "away", tmp_path / "out" / key)
    assert compare(output, look(output.objects, output.head))[1]


def test_a_run_counts_each_clip_once_that_straddles_two_shards(tmp_path, capsys):
    write_machines(tmp_path / "raw", 4, n_samples=1_000_000)
    output = output_at(plan_table(tmp_path / "raw"), tmp_path / "out")
    assert sum(len(output.clips_of(task)) for task in range(output.n_tasks)) > 4
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 0
    size = sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*.wav"))
    assert re.search(rf"^read +{format_bytes(size)}$", capsys.readouterr().out, re.MULTILINE)


def test_dask_distinguishes_attempts_without_looking_into_their_tasks(output):
    attempts = [Attempt(index, output.task(0), "code", "run") for index in range(2)]
    assert len(set(map(tokenize, attempts))) == 2
    assert tokenize(attempts[0]) == tokenize(replace(attempts[0], task="another"))
