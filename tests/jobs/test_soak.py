"""A short soak, and that a soak would see what it looks for."""

import os
import random
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from tests.helpers.commands import contents
from tests.soak import FAULTS, Fault, Moment, Round, draw, main

FAULT = Fault("workers killed", "featurize", (Moment(1, 0.0),), 0.5)


@pytest.mark.slow
def test_a_short_soak_ends_in_the_same_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    short = ("--seed", "11", "--kills", "1", "--clips", "24", "--most", "1")
    status = main([*short, "--only", "drivers killed"])
    said = capsys.readouterr().out
    assert status == 0, said
    total = said.splitlines()[-1].split()
    assert total[1] == "all"
    assert int(total[2]) >= 1, said
    assert said.rstrip().endswith("same bytes")
    assert os.listdir(tmp_path) == []


def test_a_seed_draws_the_same_faults_again_and_another_one_others(capsys):
    plans = []
    for seed in ("1", "1", "2"):
        assert main(["--seed", seed, "--plan", "30"]) == 0
        plans.append(capsys.readouterr().out)
    assert plans[0] == plans[1] != plans[2]
    assert all(plans[0].count(f"name='{name}'") == 3 for name in FAULTS)
    assert all(draw(name, random.Random(5)) == draw(name, random.Random(5)) for name in FAULTS)


@pytest.fixture
def finished(tmp_path):
    """Return a round whose output is as it should be."""
    for folder in ("expected", "out"):
        records = tmp_path / folder / "features" / "records"
        records.mkdir(parents=True)
        for number in range(3):
            (records / f"{number}.json").write_text(f"record {number}")
            (records.parent / f"c.{number}.0").write_text(f"shard {number}")
    soak = SimpleNamespace(raw=None, expected=lambda _: tmp_path / "expected")
    with ExitStack() as stack:
        yield Round(soak, FAULT, tmp_path, stack)


def end(finished):
    finished.finish(SimpleNamespace(ended=lambda: True, wait=lambda: 0))
    return finished.tally


def test_what_is_right_is_right(finished):
    finished.resume()
    assert end(finished).verdict == "same bytes"
    assert finished.tally.needless == 0


def test_a_lost_file_a_torn_one_and_one_too_many_are_seen(finished):
    shards = finished.output / "features"
    (shards / "c.0.0").unlink()
    (shards / "c.1.0").write_text("half a sh")
    (shards / "partial").touch()
    assert end(finished).wrong == [
        "1 files lost",
        "1 files too many, first ['features/partial']",
        "1 files differ, first ['features/c.1.0']",
    ]


def test_a_task_that_is_done_again_after_a_run_resumed_is_counted(finished):
    finished.resume()
    record = finished.output / "features" / "records" / "1.json"
    again = record.with_name("new")
    again.write_bytes(record.read_bytes())
    again.replace(record)
    assert end(finished).needless == 1
    assert finished.tally.wrong == []


def test_a_run_that_fails_is_wrong(finished):
    finished.finish(SimpleNamespace(ended=lambda: True, wait=lambda: 1))
    assert finished.tally.wrong == ["ended with 1"]
    assert contents(finished.output)
