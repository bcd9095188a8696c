"""The benchmark as a command: small, but all of it."""

import re
import stat
import sys

from tests.commands import run
from tests.recordings import write_machines

FLOOR = """#!{python}
import pathlib, sys
mel, output, *clips = sys.argv[1:]
assert pathlib.Path(mel).stat().st_size == 4 * 64 * 1025
pathlib.Path(output, "0.zst").write_bytes(b"".join(pathlib.Path(clip).read_bytes()[:1] for clip in clips))
"""


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
