"""What is said while no result comes, and how many files workers need."""

import logging
import resource
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import featurize
from mimii.engine import limits, silence
from mimii.engine.schedulers import WorkError
from mimii.engine.silence import Silence, describe
from tests.helpers.commands import command, environment, wait_for
from tests.helpers.dask_processes import address_of, start_scheduler, start_worker
from tests.helpers.recordings import write_machines

NOW = 1e9


def worker(status="running", last_seen=NOW - 1, memory_limit=2**30):
    return {"status": status, "last_seen": last_seen, "memory_limit": memory_limit}


@pytest.mark.parametrize(
    ("workers", "is_silent", "said"),
    [
        ([], False, "no worker is left at tcp://here; start some, such as with 'dask worker tcp://here'"),
        ([worker("paused")] * 3, False, "all workers are paused (3), since their memory is full (limit 1,024 MiB)"),
        ([worker("paused"), worker()], False, ""),
        ([worker(), worker()], True, "no sign of any of the workers (2) for 20 s"),
        ([worker()], False, ""),
    ],
)
def test_what_is_known_of_workers_that_bring_no_result(workers, is_silent, said):
    assert describe("tcp://here", workers, is_silent=is_silent) == said


class _Client:
    """Answers with one state of the workers after the other."""

    def __init__(self, *states):
        self._states, self.asked = iter(states), 0

    def sync(self, *_, callback_timeout):
        assert callback_timeout > 0
        self.asked += 1
        return {"address": "tcp://here", "workers": dict(enumerate(next(self._states)))}


def test_a_state_is_said_once_and_only_after_a_while_without_results(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(silence.time, "monotonic", lambda: clock[0])
    client = _Client([], [], [worker("paused")], [worker()], [], [worker(last_seen=7)], [worker(last_seen=7)])
    watch = Silence(client)
    with caplog.at_level(logging.WARNING):
        for now in (1, 19, 21, 22, 30, 40, 50):
            clock[0] = now
            watch.look(7)
        watch.end()
        for now in (60, 80, 90, 120):
            clock[0] = now
            watch.look(7)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(";")[0].split(",")[0] for line in said] == [
        "no result for 21 s: no worker is left at tcp://here",
        "no result for 40 s: all workers are paused (1)",
        "no result for 30 s: no worker is left at tcp://here",
        "no result for 70 s: no sign of any of the workers (1) for 20 s. Waiting",
    ]
    assert all(line.endswith("Waiting; tasks under way: 7") for line in said)
    assert client.asked == 7


@pytest.fixture
def impatient(monkeypatch, caplog):
    """Have silence noticed soon; return what was said of it."""
    monkeypatch.setattr(silence, "_SECONDS_OF_SILENCE", 0.5)
    monkeypatch.setattr(silence, "_SECONDS_BETWEEN_LOOKS", 0.1)
    caplog.set_level(logging.WARNING)
    return lambda: [line for line in caplog.messages if line.startswith("no result for")]


PAUSED = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "0.001",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
}


@pytest.mark.slow
def test_workers_that_are_paused_or_gone_are_said_and_others_finish_the_work(tmp_path, impatient):
    write_machines(tmp_path / "raw", 8, n_samples=8000)
    programs = [start_scheduler(tmp_path)]
    try:
        address_of(tmp_path)
        programs.append(start_worker(tmp_path, "--memory-limit", "1GB", **PAUSED))
        wait_for(lambda: "Pausing worker" in programs[1].text(), "a pause")
        arguments = (tmp_path / "raw", "--output", tmp_path / "out", "--scheduler", tmp_path / "scheduler.json")
        with ThreadPoolExecutor() as pool:
            status = pool.submit(featurize.main, list(map(str, arguments)))
            wait_for(
                lambda: any("all workers are paused (1)" in line for line in impatient()) or status.done(), "words"
            )
            programs[1].kill()
            wait_for(lambda: any("no worker is left" in line for line in impatient()) or status.done(), "words")
            assert not status.done()
            programs.append(start_worker(tmp_path))
            assert status.result() == 0
        assert len(impatient()) >= 2
    finally:
        for program in programs:
            program.kill()


NONE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def test_few_files_are_raised_to_what_workers_need(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 10_000) if which == resource.RLIMIT_NOFILE else NONE)
    monkeypatch.setattr(limits, "granted_memory", lambda: 1 << 40)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: asked.append(both))
    limits.allow_workers(2)
    assert asked == []
    limits.allow_workers(100)
    [(soft, hard)] = asked
    assert 900 < soft < 2000
    assert hard == 10_000


@pytest.mark.parametrize("n_files", [20, 60])
def test_where_too_few_files_are_allowed_one_line_says_so(tmp_path, n_files):
    write_machines(tmp_path / "raw", 4, n_samples=8000)
    words = command("featurize", tmp_path / "raw", "--output", tmp_path / "out", "--workers", 2)
    limited = ["/bin/sh", "-c", f'ulimit -n {n_files}; exec "$@"', "sh", *words]
    done = subprocess.run(limited, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 worker on this machine needs up to 76 open files at once, and the system allows" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_error_names_what_to_do(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256) if which == resource.RLIMIT_NOFILE else NONE)
    monkeypatch.setattr(limits, "granted_memory", lambda: 1 << 40)

    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(
        WorkError, match=r"40 workers on this machine need up to 544 open files .* allows 256: .*ulimit -n 544"
    ):
        limits.allow_workers(40)
