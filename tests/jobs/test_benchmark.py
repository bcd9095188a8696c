"""The benchmark as a command: small, but all of it."""

import re
import stat
import sys

import pytest

from tests.helpers.archives import pack_folder
from tests.helpers.commands import run
from tests.helpers.proxy import proxy_to
from tests.helpers.recordings import write_machines
from tests.helpers.servers import filesystem, rclone_server

FLOOR = """#!{python}
import pathlib, sys
mel, output, *clips = sys.argv[1:]
assert pathlib.Path(mel).stat().st_size == 4 * 64 * 1025
pathlib.Path(output, "0.zst").write_bytes(b"".join(pathlib.Path(clip).read_bytes()[:1] for clip in clips))
"""


@pytest.mark.slow
def test_it_compares_the_loop_the_pool_this_job_and_a_floor(tmp_path):
    write_machines(tmp_path / "raw", 40, n_samples=80_000)
    floor = tmp_path / "floor"
    floor.write_text(FLOOR.format(python=sys.executable))
    floor.chmod(floor.stat().st_mode | stat.S_IXUSR)
    done = run("benchmark", tmp_path / "raw", "--workers", 2, "--rounds", 1, "--floor", floor, timeout=120)
    assert done.returncode == 0, done.stderr
    numbers = {line.split("  ")[0]: re.findall(r"[\d.]+", line.partition("  ")[2]) for line in done.stdout.splitlines()}
    assert float(numbers["librosa loop, 1 process"][-1]) == 1
    for name in ("the same, 2 processes", "jobs.featurize"):
        seconds, clips_a_second = map(float, numbers[name][:2])
        assert abs(40 / seconds - clips_a_second) < 0.1 * clips_a_second
    assert float(numbers["floor"][-1]) == 1
    for name in ("plain process", "1 Dask worker", "2 Dask workers"):
        assert len(numbers[name]) == 5
        assert all(float(number) >= 0 for number in numbers[name])


@pytest.mark.slow
def test_images_are_compared_with_figures_and_with_the_loop_that_saves_with_pillow(tmp_path):
    write_machines(tmp_path / "raw", 40)
    done = run("benchmark", tmp_path / "raw", "--job", "render", "--workers", 2, "--rounds", 1, timeout=120)
    assert done.returncode == 0, done.stderr
    numbers = {line.split("  ")[0]: re.findall(r"[\d.]+", line.partition("  ")[2]) for line in done.stdout.splitlines()}
    assert float(numbers["loop with Pillow, 1 process"][-1]) == 1
    assert float(numbers["jobs.render, 2 workers"][-1]) > 0
    costs = [float(numbers[name][0]) for name in ("librosa.display.specshow, savefig", "this project's kernel")]
    assert costs[0] > 5 * costs[1]


def test_images_of_archives_are_not_compared(tmp_path):
    write_machines(tmp_path / "raw", 40)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "raw")
    done = run("benchmark", archive, "--job", "render", timeout=60)
    assert done.returncode == 2
    assert "--job render" in done.stderr


def test_too_few_clips_are_refused_with_what_to_do(tmp_path):
    write_machines(tmp_path / "raw", 3)
    done = run("benchmark", tmp_path / "raw", timeout=60)
    assert done.returncode == 2
    assert "jobs.synthesize" in done.stderr


def test_a_program_that_fails_ends_it_with_1(tmp_path):
    write_machines(tmp_path / "raw", 32)
    done = run("benchmark", tmp_path / "raw", "--rounds", 1, "--workers", 1, "--floor", "/bin/false", timeout=120)
    assert done.returncode == 1
    assert "/bin/false" in done.stderr


@pytest.mark.slow
def test_archives_are_compared_with_unpacking_and_with_inflating(tmp_path):
    write_machines(tmp_path / "raw", 40, n_samples=80_000)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "raw" / "6_dB_fan")
    done = run("benchmark", archive, "--workers", 2, "--rounds", 1, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0]: line.split("  ")[-1] for line in done.stdout.splitlines() if line}
    assert float(rows["inflate, 2 processes"]) == float(rows["inflating alone"]) == 1
    assert float(rows["jobs.featurize"]) > 0
    assert float(rows["2 Dask workers"]) > 0


@pytest.mark.slow
def test_recordings_on_s3_are_compared_with_clip_by_clip(tmp_path):
    write_machines(tmp_path / "objects" / "factory" / "raw", 40)
    with rclone_server(tmp_path / "objects") as server, proxy_to(server, latency=0.02) as proxy:
        arguments = ("--source", "s3://factory/raw", "--output", "s3://factory/scratch", "--workers", 1, "--window", 8)
        done = run("benchmark", *arguments, timeout=120, **proxy.environment)
        assert done.returncode == 0, done.stderr
        assert filesystem(server).find("factory/scratch") == []
    rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines() if line}
    allowed, seconds = (float(re.search(rf"{text}", done.stdout)[1]) for text in (r"allows (\d+)", r"takes (\d+) ms"))
    assert abs(allowed - 8 / (seconds / 1e3)) < 0.05 * allowed
    alone, job = rows["clip by clip, s3fs and librosa"], rows["jobs.featurize"]
    assert float(alone[-2]) == 1
    assert abs(float(job[-1]) - float(job[1]) / allowed) < 0.02
    assert float(job[1]) > float(alone[-4])
