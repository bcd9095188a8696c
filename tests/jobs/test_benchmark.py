"""The benchmark as a command: small, but all of it."""

import json
import os
import re
import stat
import subprocess
import sys
from contextlib import suppress

import numpy as np
import psutil
import pytest

import mimii
from jobs.benchmark import files, images, loaders
from jobs.benchmark.baselines import librosa_parts
from jobs.benchmark.timing import Timing, time_around, time_featurize, time_process
from tests.helpers.archives import pack_folder
from tests.helpers.commands import open_table, run, run_here
from tests.helpers.proxy import proxy_to
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import filesystem, rclone_server

FLOOR = """#!{python}
import pathlib, sys
mel, output, *clips = sys.argv[1:]
assert pathlib.Path(mel).stat().st_size == 4 * 64 * 1025
pathlib.Path(output, "0.zst").write_bytes(b"".join(pathlib.Path(clip).read_bytes()[:1] for clip in clips))
"""


def timing(spans, started=100.0, wall_seconds=10.0):
    return Timing(started, wall_seconds, cpu_seconds=1.0, peak_bytes=1, output=f"[]\n{json.dumps(spans)}\n")


def numbers(text):
    """Return the numbers of each line by what stands first in it."""
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: [float(number) for number in re.findall(r"-?\d[\d.]*", rest)] for name, _, rest in lines}


def test_what_a_job_takes_around_its_tasks_is_all_but_the_time_in_which_one_runs():
    # two workers: one runs from 2 to 4 and from 5 to 8, the other from 3 to 5 and from 5.5 to 6; none runs after 8
    around = time_around(timing([[105, 108], [102, 104], [103, 105], [105.5, 106]]), 2)
    assert around == {
        "start to first task, s": 2,
        "last task to exit, s": 2,
        "everything around the work, s": 4,
        "everything around the work, share": 0.4,
        "idle share of workers": 1 - 7.5 / 12,
    }


def test_a_pause_of_all_workers_is_around_the_work():
    around = time_around(timing([[101, 102], [107, 109]]), 1)
    assert around["everything around the work, s"] == 7
    assert around["idle share of workers"] == 1 - 3 / 8


@pytest.mark.usefixtures("programs_here")
def test_each_record_is_written_while_its_task_runs(tmp_path):
    write_machines(tmp_path / "raw", 40, n_samples=160_000)
    measured = time_featurize([tmp_path / "raw", "--shard-mib", 1], tmp_path, 2)
    spans = json.loads(measured.output)
    written = [path.stat().st_mtime for path in (tmp_path / "features.zarr").glob("features/records/*.json")]
    assert len(spans) == len(written) > 4
    inexact = measured.wall_seconds / 10  # Dask estimates the clocks of workers by how long messages take
    for stop, time in zip(sorted(stop for _, stop in spans), sorted(written), strict=True):
        assert abs(stop - time) < inexact
    around = time_around(measured, 2)
    outside = around["start to first task, s"] + around["last task to exit, s"]
    assert 0 < outside < around["everything around the work, s"] + 1e-3 < measured.wall_seconds
    assert -0.1 < around["idle share of workers"] < 1


def test_processes_that_outlive_their_parent_count():
    burn = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    assert time_process((sys.executable, "-c", script)).cpu_seconds > 0.5


def test_a_process_that_fails_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        time_process((sys.executable, "-c", "raise SystemExit(3)"))


LEAVES_A_CHILD = "import subprocess; print(subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL).pid)"


@pytest.mark.parametrize("script", ["pass", "raise SystemExit(3)"])
def test_what_others_leave_is_not_adopted_afterwards(script):
    with suppress(subprocess.CalledProcessError):
        time_process((sys.executable, "-c", script))
    left = psutil.Process(int(subprocess.check_output([sys.executable, "-c", LEAVES_A_CHILD])))
    try:
        assert left.ppid() != os.getpid()
    finally:
        left.kill()


@pytest.mark.slow
def test_it_compares_the_loop_the_pool_this_job_and_a_floor(tmp_path):
    write_machines(tmp_path / "raw", 40, n_samples=80_000)
    floor = tmp_path / "floor"
    floor.write_text(FLOOR.format(python=sys.executable))
    floor.chmod(floor.stat().st_mode | stat.S_IXUSR)
    done = run("benchmark", tmp_path / "raw", "--workers", 2, "--rounds", 1, "--floor", floor)
    assert done.returncode == 0, done.stderr
    found = numbers(done.stdout)
    assert found["librosa loop, 1 process"][-1] == 1
    for name in ("the same, 2 processes", "jobs.featurize"):
        seconds, clips_a_second = found[name][:2]
        assert abs(40 / seconds - clips_a_second) < 0.5 + 0.1 * clips_a_second  # both are rounded
    seconds = found["jobs.featurize"][0]
    assert 0 < found["start to first task, s"][0] < found["everything around the work, s"][0] < seconds
    assert found["floor"][-1] == 1
    for name in ("plain process", "1 Dask worker", "2 Dask workers"):
        assert len(found[name]) == 5
        assert min(found[name]) >= 0


@pytest.mark.usefixtures("programs_here")
def test_images_are_compared_with_figures_and_with_the_loop_that_saves_with_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_SPECSHOW_CLIPS", 4)
    write_machines(tmp_path / "raw", 32)
    done = run_here("benchmark", tmp_path / "raw", "--job", "render", "--workers", 1, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    found = numbers(done.stdout)
    assert found["loop with Pillow, 1 process"][-1] == 1
    assert found["jobs.render, 1 worker"][-1] > 0
    assert found["librosa.display.specshow, savefig"][0] > 5 * found["this project's kernel"][0]


@pytest.mark.usefixtures("programs_here")
def test_what_recordings_are_made_into_is_compared_with_the_loop_that_does_the_same(tmp_path):
    write_machines(tmp_path / "raw", 32)
    done = run_here("benchmark", tmp_path / "raw", "--job", "parts", "--workers", 1)
    assert done.returncode == 0, done.stderr
    for way in ("resampled: --sample-rate 22050", "channels: --channel all", "segments: --segment 1"):
        assert way in done.stdout
    assert done.stdout.count("librosa loop, 1 process") == done.stdout.count("jobs.featurize") == 3


@pytest.mark.parametrize("job", ["render", "parts"])
def test_what_needs_single_files_refuses_archives_at_once(tmp_path, job, monkeypatch):
    monkeypatch.setattr("jobs.benchmark.timing.compile_librosa", lambda _: pytest.fail("librosa is compiled first"))
    write_machines(tmp_path / "raw", 40)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "raw")
    done = run_here("benchmark", archive, "--job", job)
    assert done.returncode == 2
    assert f"--job {job}" in done.stderr


def test_too_few_clips_are_refused_before_anything_is_read(tmp_path):
    done = run_here("benchmark", tmp_path / "nothing", "--clips", 31)
    assert (done.returncode, done.stderr) == (2, "benchmark: --clips 31: at least 32 are needed\n")


@pytest.mark.parametrize("way", ["resampled", "channels", "segments"])
def test_the_loop_computes_the_same_rows(tmp_path, way):
    path = write_clip(tmp_path / "raw" / "a.wav", 3, 40_000, n_channels=3)
    how = {"resampled": {"sample_rate": 22_050}, "channels": {"channel": "all"}, "segments": {"segment": 1.0}}[way]
    plan = mimii.plan_table(mimii.find_recordings(path), split="none", **how)
    mimii.featurize(plan, tmp_path / "t")
    expected = np.concatenate(list(librosa_parts(str(path), way)))
    np.testing.assert_allclose(open_table(tmp_path / "t").features, expected, rtol=0, atol=1e-3)


def test_too_few_clips_are_refused_with_what_to_do(tmp_path):
    write_machines(tmp_path / "raw", 3)
    done = run_here("benchmark", tmp_path / "raw")
    assert done.returncode == 2
    assert "jobs.synthesize" in done.stderr


def test_a_program_that_fails_ends_it_with_1(tmp_path, monkeypatch):
    """What is timed before it, others test."""

    def time_module(_module, _name, _listed, rows, _n_workers):
        rows.touch()
        return timing([])

    monkeypatch.setattr(files, "time_module", time_module)
    monkeypatch.setattr(files, "time_featurize", lambda *_: timing([[101, 102]]))
    monkeypatch.setattr("jobs.benchmark.timing.compile_librosa", lambda _: None)
    write_machines(tmp_path / "raw", 32)
    done = run_here("benchmark", tmp_path / "raw", "--rounds", 1, "--workers", 1, "--floor", "/bin/false")
    assert done.returncode == 1
    assert "/bin/false" in done.stderr


@pytest.mark.usefixtures("programs_here")
def test_archives_are_compared_with_unpacking_and_with_inflating(tmp_path):
    write_machines(tmp_path / "raw", 40, n_samples=80_000)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "raw" / "6_dB_fan")
    done = run_here("benchmark", archive, "--workers", 2, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    found = numbers(done.stdout)
    assert found["unpack, librosa loop"][-1] == found["inflate, 2 processes"][-2] == found["inflating alone"][-1] == 1
    assert found["jobs.featurize"][-1] > 0
    assert found["2 Dask workers"][-1] > 0
    assert 0 < found["everything around the work, share"][0] < 1


@pytest.mark.usefixtures("programs_here")
def test_recordings_on_s3_are_compared_with_clip_by_clip(tmp_path, use):
    write_machines(tmp_path / "objects" / "factory" / "raw", 32)
    with rclone_server(tmp_path / "objects") as server, proxy_to(server, latency=0.02) as proxy:
        arguments = ("--source", "s3://factory/raw", "--output", "s3://factory/scratch", "--workers", 1)
        use(proxy)
        done = run_here("benchmark", *arguments, "--fetch-window", 8)
        assert done.returncode == 0, done.stderr
        assert filesystem(server).find("factory/scratch") == []
    rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines() if line}
    allowed, seconds = (float(re.search(rf"{text}", done.stdout)[1]) for text in (r"allows (\d+)", r"takes (\d+) ms"))
    assert abs(allowed - 8 / (seconds / 1e3)) < 0.05 * allowed
    alone, job = rows["clip by clip, s3fs and librosa"], rows["jobs.featurize"]
    assert float(alone[-2]) == 1
    assert abs(float(job[-1]) - float(job[1]) / allowed) < 0.02
    assert float(job[1]) > float(alone[-4])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_machines(folder / "raw", 24)
    mimii.featurize(mimii.plan_table(mimii.find_recordings(folder / "raw"), split="stratified"), folder / "out")
    return folder / "out"


@pytest.mark.usefixtures("programs_here")
def test_reading_for_training_is_compared(table):
    done = run_here("benchmark", "--job", "train", table, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("24 clips, 672 rows, ")
    found = numbers(done.stdout)
    for name in ("whole shards through zarr, 2 threads", "mimii.batches, 2 threads", "mimii.read_clip"):
        assert len(found[name]) == 4, name


def test_training_without_a_table_is_a_usage_error():
    done = run_here("benchmark", "--job", "train")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "benchmark: --job train reads one table of jobs.featurize: name it as SOURCE, such as "
            "data/processed/features.zarr\n"
        ),
    )


@pytest.mark.parametrize("name", sorted(loaders.READERS.keys() - loaders.NEED_TORCH))
def test_every_reader_reads_each_row_once(table, name):
    n_rows = mimii.frames(table, split=None).n_items if name == "frames" else 24 * 28
    assert sum(loaders.READERS[name](str(table), 2)) == n_rows
