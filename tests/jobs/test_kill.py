"""Killed with SIGKILL, in whole or in part and at any moment: the same bytes in the end, and nothing done twice."""

import random
import time

import psutil
import pytest

from tests.helpers.commands import (
    assert_same_bytes,
    featurize_here,
    partial_files,
    record_numbers,
    replaced,
    shard_files,
    wait_for,
)
from tests.helpers.faults import SHORT_HOP, Gate, Run, kill_one
from tests.helpers.recordings import write_machines

N_CLIPS = 60


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, N_CLIPS)
    return root


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "features.zarr"
    assert featurize_here(raw, "--output", output, *SHORT_HOP) == 0
    assert len(shard_files(output)) == N_CLIPS // 2
    return output


@pytest.fixture
def gate(raw, tmp_path):
    """Return what keeps a run from finishing its last shard: no process is killed too late to show anything."""
    return Gate(tmp_path / "gate", sorted(raw.rglob("*.wav"), key=lambda path: path.parts)[-1:])


@pytest.mark.slow
def test_a_killed_driver_leaves_no_workers_and_the_next_run_does_what_is_missing(
    raw, undisturbed, tmp_path, gate, capsys
):
    output = tmp_path / "features.zarr"
    run = Run(raw, output, **gate.environment)
    run.wait_for(lambda: len(record_numbers(output)) >= 10, "ten records")
    run.kill()
    wait_for(lambda: not run.alive(), "the end of all workers")
    kept, shards = record_numbers(output), shard_files(output)
    assert 10 <= len(kept) < N_CLIPS // 2
    assert featurize_here(raw, "--output", output, *SHORT_HOP) == 0
    assert set(range(N_CLIPS // 2)) - set(replaced(shards, output)) == set(kept)
    assert f"{N_CLIPS // 2 - len(kept)} computed, {len(kept)} there already" in capsys.readouterr().out
    assert_same_bytes(output, undisturbed)
    assert partial_files(output) == []


@pytest.mark.slow
def test_random_kills_one_after_the_other_end_in_the_same_bytes(raw, undisturbed, tmp_path, gate):
    rng, output = random.Random(1), tmp_path / "features.zarr"
    written = 0
    for _ in range(3):
        run = Run(raw, output, **gate.environment)
        # Some of these moments are in the start, some at the very first objects, most in between.
        moment = min(written + rng.choice([0, 1, rng.randrange(3, 9)]), N_CLIPS // 2 - 1)
        delay = rng.uniform(0, 0.05)
        run.wait_for(lambda moment=moment: len(record_numbers(output)) >= moment, "some progress")
        time.sleep(delay)
        if rng.random() < 0.3 and run.workers():
            kill_one(run.workers())
            more = min(moment + 1, N_CLIPS // 2 - 1)
            run.wait_for(lambda more=more: len(record_numbers(output)) >= more, "progress without it")
        run.kill()
        wait_for(lambda run=run: not run.alive(), "the end of all workers")
        assert len(record_numbers(output)) >= written, "a record was lost"
        written = len(record_numbers(output))
    assert 0 < written < N_CLIPS // 2
    assert featurize_here(raw, "--output", output, *SHORT_HOP) == 0
    assert_same_bytes(output, undisturbed)
    assert partial_files(output) == []


@pytest.mark.slow
def test_two_runs_at_once_end_in_the_same_bytes(raw, undisturbed, tmp_path, gate):
    output = tmp_path / "features.zarr"
    one = Run(raw, output, **gate.environment)
    one.wait_for(lambda: record_numbers(output), "the first record")
    kill_one([psutil.Process(one.process.pid)])  # its workers work on for a moment, beside those of the next run
    other = Run(raw, output)
    gate.open()
    one.wait()
    assert other.wait() == 0, other.text()
    wait_for(lambda: not one.alive(), "the end of all workers")
    assert_same_bytes(output, undisturbed)
    assert partial_files(output) == []
