"""A short run of the fuzz: no damaged file is read differently than by libsndfile, and none ends the program."""

import json
import random
import subprocess
import sys

import pytest

from tests import fuzz
from tests.helpers.commands import ROOT, environment, featurize_from_here, open_table, run_here


def test_damaged_files_of_all_kinds_are_read_as_by_libsndfile_or_refused():
    command = [sys.executable, "-m", "tests.fuzz", "--files", "600", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    counts = {
        line.strip().partition("  ")[2]: int(line.split()[0].replace(",", "")) for line in done.stdout.splitlines()
    }
    assert sum(counts.values()) == 600
    assert counts["the same"] > 100
    assert counts["both refuse"] > 100


@pytest.mark.slow
def test_damaged_files_are_all_in_the_table_and_what_is_there_is_right(tmp_path):
    whole, raw = fuzz.whole_files(), tmp_path / "raw"
    raw.mkdir()
    for number in range(160):
        suffix, data = whole[number % len(whole)]
        (raw / f"{number:03d}.{suffix}").write_bytes(fuzz.damage(data, random.Random(f"table {number}")))
    done = featurize_from_here(raw, tmp_path / "out", "--scheduler", "local", "--workers", 2)
    assert done.returncode == 3, done.stderr
    table = open_table(tmp_path / "out")
    assert [path.rpartition("/")[2] for path in table.path.values] == sorted(path.name for path in raw.iterdir())
    assert all(table.status.values)
    n_good = int((table.status.values == "ok").sum())
    assert n_good > 30
    verified = run_here("verify", tmp_path / "out", "--against", raw, "--sample", n_good, "--json")
    assert verified.returncode == 0, verified.stdout[-3000:]
    assert json.loads(verified.stdout)["checks"]["librosa"]["looked_at"] == n_good


def test_a_difference_is_seen():
    ours, theirs = fuzz.samples_of(fuzz.noise(1, 50)), fuzz.samples_of(fuzz.noise(2, 50))
    assert fuzz.judge(ours, theirs) == "DIFFERENT: samples"
    assert fuzz.judge(ours, ours.copy()) == "the same"
    assert fuzz.judge(ours[:40], ours) == "DIFFERENT: samples"
    assert fuzz.judge(ours, "refused: not known") == "DIFFERENT: only libsndfile refuses"
    assert fuzz.judge("empty file", "refused: not known") == "both refuse"
    assert fuzz.judge("truncated: there is more", ours) == "only ours refuses: truncated"


def test_every_kind_is_whole_before_it_is_damaged(tmp_path):
    for number, (suffix, data) in enumerate(fuzz.whole_files()):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(data)
        assert fuzz.judge(fuzz.read_ours(path), fuzz.read_by_name(path)) == "the same", fuzz.KINDS[number]
