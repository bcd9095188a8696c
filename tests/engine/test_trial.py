"""Recordings that kill the process that reads them: found after a few deaths, and bad clips from then on."""

import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from mimii.engine import Pipeline, Where, compute, connect, tasks_to_results
from mimii.engine.trial import find_fatal
from mimii.features import Fault, recording
from mimii.storage import AudioError, DiskObjects
from mimii.table import shard_task
from tests.helpers.commands import assert_same_bytes, call, featurize_here, open_table, plan_table, wait_for
from tests.helpers.dask_processes import is_worker, kill_all
from tests.helpers.faults import SHORT_HOP, Run, cluster_file, deadly_recordings
from tests.helpers.recordings import write_machines

N_CLIPS = 24
SYNC = ("--scheduler", "sync")
DIED = re.compile(r"a worker died (\d+) times")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, N_CLIPS)
    return root


def name(index):
    return f"clip{index:08d}"


def statuses(output):
    table = open_table(output)
    return {int(Path(path).stem): status for path, status in zip(table.path.values, table.status.values, strict=True)}


def unreadable(raw, folder, monkeypatch, job="featurize", **reasons):
    """Run a job in this process, where the same recordings are simply unreadable."""
    read = recording.read_blocks

    def read_blocks(file, header, channels, segment):
        if reason := reasons.get(f"clip{Path(file.name).stem}"):
            raise AudioError(reason)
        return read(file, header, channels, segment)

    monkeypatch.setattr(recording, "read_blocks", read_blocks)
    size = ("--shard-mib", 1) if job == "featurize" else ()
    assert call(job, raw, "--output", folder / "expected", *size, *SYNC, *SHORT_HOP) == 3
    return folder / "expected"


AT_ONCE = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
"""A task is tried with care after the first death of a worker."""


def small_cluster(folder, memory):
    """Write a cluster file for a worker with little memory."""
    file = folder / "cluster.yaml"
    file.write_text(cluster_file(n_workers=1, threads_per_worker=1, memory_limit=memory))
    return file


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_is_a_bad_clip(raw, tmp_path, monkeypatch):
    reasons = {
        name(5): "reading it kills the process (SIGSEGV)",
        name(12): "reading it kills the process (exit status 1)",
        name(13): "reading it kills the process (SIGABRT)",
    }
    deeds = {name(5): "SIGSEGV", name(12): "exit", name(13): "SIGABRT"}
    run = Run(raw, tmp_path / "out", **deadly_recordings(tmp_path / "deadly", **deeds))
    assert run.wait() == 3, run.text()
    assert_same_bytes(tmp_path / "out", unreadable(raw, tmp_path, monkeypatch, **reasons))
    bad = {index: status for index, status in statuses(tmp_path / "out").items() if status != "ok"}
    assert bad == {int(clip.removeprefix("clip")): reason for clip, reason in reasons.items()}
    deaths = [int(number) for number in DIED.findall(run.text())]
    assert 3 <= len(deaths) <= 9, "not found out at once"
    assert set(deaths) == {4}
    for reason in reasons.values():
        assert f"1: {reason}" in run.text()
    assert "Traceback" not in run.text()


@pytest.mark.slow
def test_many_clips_that_kill_their_workers_are_as_many_bad_clips(raw, tmp_path, monkeypatch):
    deadly = [name(index) for index in range(1, N_CLIPS, 4)]
    reason = "reading it kills the process (SIGSEGV)"
    harm = deadly_recordings(tmp_path / "deadly", **dict.fromkeys(deadly, "SIGSEGV"))
    run = Run(raw, tmp_path / "out", **harm, **AT_ONCE)
    assert run.wait() == 3, run.text()
    assert_same_bytes(tmp_path / "out", unreadable(raw, tmp_path, monkeypatch, **dict.fromkeys(deadly, reason)))


@pytest.mark.slow
def test_a_clip_that_takes_all_memory_is_a_bad_clip_until_there_is_more(raw, tmp_path, capsys):
    output, cluster = tmp_path / "out", small_cluster(tmp_path, "500MB")
    deadly = deadly_recordings(tmp_path / "deadly", **{name(7): "memory"})
    run = Run(raw, output, "--scheduler", cluster, **deadly, **AT_ONCE)
    assert run.wait() == 3, run.text()
    assert DIED.search(run.text())
    assert statuses(output) == dict.fromkeys(range(N_CLIPS), "ok") | {7: "not enough memory for it"}
    assert featurize_here(raw, "--output", output, *SHORT_HOP) == 0
    assert re.search(r"shards +1 computed, 11 there already", capsys.readouterr().out)
    assert featurize_here(raw, "--output", tmp_path / "whole", *SHORT_HOP) == 0
    assert_same_bytes(output, tmp_path / "whole")


@pytest.mark.slow
def test_a_rendered_clip_that_kills_its_worker_has_no_image(raw, tmp_path, monkeypatch):
    deadly = deadly_recordings(tmp_path / "deadly", **{name(6): "SIGBUS"})
    run = Run(raw, tmp_path / "out", job="render", **deadly, **AT_ONCE)
    assert run.wait() == 3, run.text()
    reasons = {name(6): "reading it kills the process (SIGBUS)"}
    assert_same_bytes(tmp_path / "out", unreadable(raw, tmp_path, monkeypatch, "render", **reasons))
    assert len(list((tmp_path / "out").rglob("*-00000006.png"))) == 0


@pytest.fixture
def faults(raw, tmp_path, monkeypatch):
    """Return what finds the faults of recordings, numbered in the order of one task that has them all."""

    def faults(memory=None, **deeds):
        for variable, value in deadly_recordings(tmp_path / "deadly", **deeds).items():
            monkeypatch.setenv(variable, value)
        task = shard_task(plan_table(raw, mib=64), 0, DiskObjects("unused"))
        assert len(task.inputs) == N_CLIPS
        found = find_fatal(task, memory).faults
        names = {one.clip: Path(one.place.url).stem for one in task.inputs}
        return {int(names[clip]): (fault.problem, fault.unread) for clip, fault in found.items()}

    return faults


def test_each_recording_that_kills_is_found_and_no_other(faults):
    deeds = {name(0): "SIGSEGV", name(2): "SIGBUS", name(3): "exit", name(9): "no sound", name(23): "SIGILL"}
    assert faults(**deeds) == {
        0: ("reading it kills the process (SIGSEGV)", False),
        2: ("reading it kills the process (SIGBUS)", False),
        3: ("reading it kills the process (exit status 1)", False),
        9: ("no sound", False),
        23: ("reading it kills the process (SIGILL)", False),
    }


def test_recordings_that_do_no_harm_have_no_faults(faults):
    assert faults() == {}


def test_what_the_kernel_kills_for_memory_is_worth_another_try(faults):
    problem = "not enough memory for it: the process that read it was killed"
    assert faults(**{name(4): "SIGKILL"}) == {4: (problem, True)}


def test_what_needs_more_memory_than_the_worker_has_is_worth_another_try(faults):
    assert faults(400_000_000, **{name(4): "memory"}) == {4: ("not enough memory for it", True)}


def test_storage_that_cannot_be_used_is_no_fault_of_a_recording(faults):
    with pytest.raises(OSError, match=r"^the storage is gone"):
        faults(**{name(4): "storage"})


@dataclass(frozen=True)
class UnluckyTask:
    """A task without recordings that succeeds once, and from then on with care alone."""

    folder: Path
    number: int
    faults: tuple[()] | dict[int, Fault] = ()
    """Taking care makes a dictionary of it."""
    inputs: tuple[()] = ()


def kill_unless_first(task):
    done = task.folder / f"{task.number}-done"
    if done.exists() and not isinstance(task.faults, dict):
        os.kill(os.getpid(), signal.SIGKILL)
    done.touch()
    return task.number


@pytest.mark.slow
def test_a_result_that_is_lost_with_its_worker_may_be_had_with_care(tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    pipeline = Pipeline("kill-unless-first", partial(tasks_to_results, function=kill_unless_first))
    with connect(Where("local", 1)) as cluster:
        results = compute(cluster, pipeline, enumerate(UnluckyTask(tmp_path, number) for number in range(4)))
        taken = [next(results)]
        wait_for(lambda: len(list(tmp_path.iterdir())) == 4, "the end of all tasks")
        mine = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        kill_all(filter(is_worker, mine))
        assert sorted([*taken, *results]) == [(number, number) for number in range(4)]


def test_a_trial_whose_worker_is_gone_ends_without_a_traceback():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "mimii.engine.trial"]
    request = pickle.dumps((logging.WARNING, (None, 0)))
    with os.fdopen(write_end, "wb") as nobody:
        done = subprocess.run(command, input=request, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
