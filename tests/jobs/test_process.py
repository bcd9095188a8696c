"""Ctrl-C at any moment of a command ends it with its status and a line: while it imports, plans, closes and exits."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobs import process
from tests.helpers.commands import ROOT, call, command, environment, record_numbers, wait_for
from tests.helpers.faults import Gate, Run
from tests.helpers.recordings import write_clip, write_machines

SCRIPT = Path(sys.executable).with_name("sound-features")
INTERRUPTS = """
import atexit, importlib.abc, os, signal, subprocess, sys, time

WHEN = os.environ["WHEN"]

def interrupt():
    for _ in range(int(os.environ["TIMES"])):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))

def start():
    print(subprocess.Popen(["sleep", "300"], stdout=-3, stderr=-3).pid, file=sys.stderr)

class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == os.environ["AT"]:
            at_exit, wait = lambda: atexit.register(interrupt), lambda: time.sleep(1)
            {"import": interrupt, "exit": at_exit, "never": wait, "start": start}[WHEN]()

sys.meta_path.insert(0, Interrupts())
"""
"""When it imports a module, interrupts the process, then or at its exit; or waits a second; or starts a process."""


@pytest.fixture
def raw(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 8000)
    return tmp_path / "raw"


@pytest.fixture
def interrupted(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(INTERRUPTS)

    def run_and_interrupt(words, at, times=1, when="import", number=signal.SIGINT):
        path = f"{tmp_path / 'site'}:{ROOT}"
        variables = {"PYTHONPATH": path, "AT": at, "TIMES": str(times), "WHEN": when, "SIGNAL": str(int(number))}
        return subprocess.run(
            words, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, check=False
        )

    return run_and_interrupt


@pytest.mark.parametrize(("how", "times"), [("module", 1), ("module", 2), ("script", 2)])
@pytest.mark.parametrize("at", ["jobs.options", "jobs.command", "numpy", "jobs.progress", "mimii.table.make"])
def test_an_interrupt_while_it_imports_and_plans_is_a_line(interrupted, raw, tmp_path, how, at, times):
    words = command("featurize", raw, "--output", tmp_path / "out", "--scheduler", "sync")
    if how == "script":
        words[1:3] = [SCRIPT, "featurize"]
    done = interrupted(words, at, times)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; run the same command again\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_as_well_with_the_status_that_shells_expect(interrupted, raw, tmp_path, number):
    words = command("featurize", raw, "--output", tmp_path / "out", "--scheduler", "sync")
    done = interrupted(words, "jobs.progress", number=number)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == "interrupted; run the same command again\n"


def test_with_nohup_it_goes_on_when_the_terminal_closes(interrupted, raw, tmp_path):
    words = ["nohup", *command("featurize", raw, "--output", tmp_path / "out", "--scheduler", "sync")]
    assert interrupted(words, "jobs.progress", number=signal.SIGHUP).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_leaves_no_process(tmp_path, number):
    """The first one waits for workers that are frozen: without the second it would take ten seconds."""
    paths = write_machines(tmp_path / "raw", 8)
    gate = Gate(tmp_path / "gate", paths[-1:])
    run = Run(tmp_path / "raw", tmp_path / "out", **gate.environment)
    try:
        run.wait_for(lambda: record_numbers(tmp_path / "out"), "the first record")
        for worker in run.workers():
            worker.suspend()
        os.kill(run.process.pid, number)
        run.wait_for(lambda: "once more to stop at once" in run.text(), "takes note")
        os.kill(run.process.pid, signal.SIGINT)
        assert run.wait() == 130
        wait_for(lambda: not run.alive(), "the end of all processes")
    finally:
        run.end()
    *_, noted, last = run.text().splitlines()
    assert noted.endswith("stopping; once more to stop at once")
    assert last == "interrupted; run the same command again"


@pytest.mark.parametrize("job", ["score", "verify", "detect", "render", "fetch", "synthesize"])
def test_all_commands_end_like_this(interrupted, job):
    done = interrupted(command(job, "--help"), "jobs.version")
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)
    assert "Traceback" not in done.stderr


def test_benchmark_removes_what_it_wrote(interrupted, tmp_path):
    for index in range(40):
        write_clip(tmp_path / "raw" / f"{index}.wav", index, 8000)
    (tmp_path / "scratch").mkdir()
    words = command("benchmark", tmp_path / "raw", "--scratch", tmp_path / "scratch")
    done = interrupted(words, "jobs.benchmark.files", 2)
    assert (done.returncode, done.stderr) == (130, "benchmark: interrupted\n")
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_at_its_exit_leaves_the_status_of_a_job_as_it_is(interrupted, raw, tmp_path, times):
    done = interrupted(
        command("featurize", raw, "--output", tmp_path / "out", "--scheduler", "sync"), "jobs.report", times, "exit"
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "rows " in done.stdout


def test_a_program_that_imports_a_command_keeps_its_own_interrupts():
    script = "import signal; before = signal.getsignal(signal.SIGINT); import jobs.featurize; "
    script += "assert signal.getsignal(signal.SIGINT) is before"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), check=False, cwd=ROOT)
    assert done.returncode == 0


def test_signals_kill_what_a_command_forks():
    """With the handlers of the command, a worker of a pool might miss the signal that ends it, and the pool hung."""
    script = "import sys; sys.argv[:] = ['-m']; import jobs.process, multiprocessing as m, signal as s; "
    script += "print(m.get_context('fork').Pool(1).map(s.getsignal, [s.SIGTERM, s.SIGINT, s.SIGHUP]))"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.count("SIG_DFL") == 3


def test_in_a_program_that_imports_a_command_it_begins_when_it_is_called():
    assert process.began() == pytest.approx(time.monotonic(), abs=0.1)


def test_the_time_in_the_summary_has_the_imports_in_it(interrupted, raw, tmp_path):
    arguments = (raw, "--output", tmp_path / "out", "--scheduler", "sync")
    assert call("featurize", *arguments) == 0  # the second time, there is nothing to do
    done = interrupted(command("featurize", *arguments), "jobs.options", when="never")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("time ")]
    assert float(line.split()[1]) >= 1


@pytest.mark.parametrize(("when", "status"), [("never", 0), ("import", 130)])
def test_it_kills_no_process_that_was_there_before_it(interrupted, tmp_path, when, status):
    """A shell that starts a process and lets a command take its place leaves it that process as a child."""
    job = shlex.join(command("synthesize", tmp_path / "raw", "--clips", 1))
    shell = f"sleep 300 >/dev/null 2>&1 & echo $! > {tmp_path / 'pid'}; exec {job}"
    done = interrupted(["bash", "-c", shell], "jobs.words", when=when)
    assert done.returncode == status
    end(int((tmp_path / "pid").read_text()))


def test_what_it_has_started_and_is_meant_to_stay_is_there_after_its_end(interrupted, tmp_path):
    words = command("synthesize", tmp_path / "raw", "--clips", 1)
    done = interrupted(words, "jobs.words", when="start")
    assert done.returncode == 0
    end(int(done.stderr))


def end(process):
    """End a process that must be alive."""
    found = psutil.Process(process)
    assert found.status() != psutil.STATUS_ZOMBIE
    found.kill()
