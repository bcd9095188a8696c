"""What all commands share: they run without streams, in any thread, and say what is wrong with Dask's configuration."""

import asyncio
import subprocess
import sys
import threading

import pytest

from jobs import featurize
from mimii.engine.lease import hold
from mimii.storage import DiskObjects
from tests.helpers.commands import command, environment, featurize_here, open_table, run, run_here
from tests.helpers.recordings import write_clip

SYNC = ("--scheduler", "sync")


@pytest.fixture
def raw(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 8000)
    return tmp_path / "raw"


@pytest.mark.parametrize(
    ("closed", "how"),
    [("stdout", SYNC), ("stderr", SYNC), ("both", ("--workers", 1))],
    ids=["stdout, sync", "stderr, sync", "both, workers"],
)
def test_a_command_without_standard_streams_works_and_its_status_tells(raw, tmp_path, closed, how):
    ends = {"stdout": ">&-", "stderr": "2>&-", "both": "<&- >&- 2>&-"}[closed]
    sources = {raw: 0} | ({tmp_path / "nowhere": 2} if closed == "stderr" else {})
    for source, status in sources.items():
        words = command("featurize", source, "--output", tmp_path / "out", *how)
        done = subprocess.run(["/bin/sh", "-c", f'exec "$@" {ends}', "sh", *words], env=environment(), check=False)
        assert done.returncode == status
    assert open_table(tmp_path / "out").sizes["clip"] == 1


def test_too_little_memory_to_start_is_said_in_a_line(raw, tmp_path):
    words = command("featurize", raw, "--output", tmp_path / "out", *SYNC)
    limited = ["/bin/sh", "-c", 'ulimit -v 250000; exec "$@"', "sh", *words]
    done = subprocess.run(limited, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    needed = "a job needs 384 MiB of address space at least, and ulimit -v grants 244 MiB: raise it"
    assert done.stderr == f"featurize: {needed}\n"


def test_a_busy_output_is_a_failure_that_may_pass_and_no_wrong_usage(raw, tmp_path):
    with hold(DiskObjects(str(tmp_path / "out")), "other results"):
        done = run_here("featurize", raw, "--output", tmp_path / "out", *SYNC)
    assert done.returncode == 1
    assert "another run writes other results to it" in done.stderr


def test_a_command_works_where_python_has_no_streams(raw, tmp_path):
    script = (
        "import os, sys; sys.stdout = sys.stderr = None; from jobs import featurize;"
        f"os._exit(featurize.main([{str(raw)!r}, '--output', {str(tmp_path / 'out')!r}]))"
    )
    assert subprocess.run([sys.executable, "-c", script], env=environment(), check=False).returncode == 0
    assert open_table(tmp_path / "out").sizes["clip"] == 1


@pytest.mark.parametrize("scheduler", ["sync", "threads", "local"])
def test_a_command_works_in_any_thread(raw, tmp_path, scheduler):
    workers = [] if scheduler == "sync" else ["--workers", "1"]
    arguments = [str(raw), "--output", str(tmp_path / "out"), "--scheduler", scheduler, *workers, "--quiet"]
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(featurize.main(arguments)))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_a_configuration_of_dask_that_cannot_be_read_is_named_in_one_line(raw, tmp_path):
    (tmp_path / "broken.yaml").write_text("distributed: [unclosed\n")
    done = run("featurize", raw, "--output", tmp_path / "out", DASK_CONFIG=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("featurize: ")
    assert str(tmp_path / "broken.yaml") in done.stderr
    assert done.stderr.count("\n") == 1
    assert run("featurize", "--help", DASK_CONFIG=str(tmp_path)).returncode == 0


def test_other_errors_of_values_are_not_taken_for_it(raw, tmp_path, monkeypatch):
    def wrong(_):
        raise ZeroDivisionError

    monkeypatch.setattr(featurize, "_featurize", wrong)
    with pytest.raises(ZeroDivisionError):
        featurize_here(raw, "--output", tmp_path / "out")


ELSEWHERE = """
import asyncio, multiprocessing, sys
from jobs import featurize


def work(how, output):
    workers = ["--workers", "1"] if how == "local" else []
    sys.exit(featurize.main([sys.argv[1], "--output", output, "--scheduler", how, *workers, "--quiet"]))


async def in_a_loop(how, output):
    work(how, output)


if __name__ == "__main__":
    _, _, where, how, output = sys.argv
    if where == "loop":
        asyncio.run(in_a_loop(how, output))
    process = multiprocessing.get_context(where).Process(target=work, args=(how, output), daemon=True)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_a_command_that_starts_no_workers_works_in_an_event_loop(raw, tmp_path):
    async def work():
        return featurize_here(raw, "--output", tmp_path / "out")

    assert asyncio.run(work()) == 0
    assert open_table(tmp_path / "out").sizes["clip"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("where", "how"), [("loop", "local"), ("spawn", "local"), ("fork", "sync"), ("fork", "local")])
def test_a_command_works_in_an_event_loop_and_under_multiprocessing(raw, tmp_path, where, how):
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    words = [sys.executable, tmp_path / "elsewhere.py", raw, where, how, str(tmp_path / "out")]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert open_table(tmp_path / "out").sizes["clip"] == 1
