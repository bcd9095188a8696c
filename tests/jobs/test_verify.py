"""The check of a table, from the command line and from Python: findings, advice, and that the advice works."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import zarr

from jobs import render, verify
from mimii import verification
from mimii.engine import LostError, describe, from_json, runs, to_json
from mimii.recordings import SourceError, find_recordings
from mimii.table import Layout
from mimii.table.encoding import encode_chunk, encode_shard
from mimii.verification import CHECKS, verdict
from tests.helpers.commands import ROOT, assert_same_bytes, featurize_here, run
from tests.helpers.recordings import noise, write_clip, write_machines
from tests.helpers.servers import client, filesystem

HOP = ("--n-fft", 512, "--hop-length", 64)
"""Makes 309 rows of a short clip: three clips to a shard."""

N_CLIPS, N_ROWS = 13, 12 * 309
LAYOUT = Layout(320, 927, 927)
BAD = 5


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Write twelve clips, one of which turns out to be bad, and one that is too short for a row."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    paths = sorted(write_machines(root, 12, 20_000))
    samples = noise(99, 20_000)[:, 0] / 32768
    samples[777] = np.nan
    soundfile.write(paths[BAD], samples, 16_000, subtype="FLOAT")
    write_clip(root / "6_dB_fan/fan/id_06/normal/00000000.wav", 50, 100)
    return root


def make(source, output, *arguments):
    return featurize_here(source, "--output", output, "--max-bad", 2, "--quiet", *HOP, *arguments)


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "features.zarr"
    assert make(raw, output) == 0
    return output


@pytest.fixture
def damaged(finished, tmp_path):
    """Return a copy, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "features.zarr"))


@pytest.fixture
def check(capfd):
    """Return what runs the command in this process: its status, and the document that it prints."""

    def check(*arguments):
        status, printed = call(*arguments, "--json", "--quiet"), capfd.readouterr()
        return status, json.loads(printed.out) if printed.out else printed.err

    return check


def call(*arguments):
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return verify.main(["--scheduler", "sync", *map(str, arguments)])
    except SystemExit as exit_:
        return exit_.code
    finally:
        signal.signal(signal.SIGTERM, handler)


def findings(document):
    return {name: found for name, check in document["checks"].items() if (found := check.get("findings"))}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def swap(one, other):
    way = one.with_name("way")
    one.rename(way)
    other.rename(one)
    way.rename(other)


def shard(store, index):
    return store / f"features/c.{index}.0"


def record(store, index):
    return store / f"features/records/{index}.json"


def rewrite_record(store, index, change):
    record(store, index).write_bytes(to_json(change(from_json(record(store, index).read_bytes()))))


def vouch(store, index, *keys):
    """Let the record say that the objects are as they were written."""
    written = describe({key: (store / key).read_bytes() for key in keys})
    rewrite_record(store, index, lambda old: replace(old, written=old.written | written))


def rewrite_rows(store, index, change):
    """Write other rows, with right checksums, and let the record vouch for them."""
    rows = zarr.open_array(store / "features", mode="r")[index * 927 : (index + 1) * 927]
    change(rows)
    shard(store, index).write_bytes(encode_shard([rows], LAYOUT))
    vouch(store, index, f"features/c.{index}.0")


def rewrite_column(store, name, at, value):
    array = zarr.open_array(store / name, mode="r+")
    values = array[:]
    values[at] = value
    array[:] = values


def another_spec(group):
    attributes = group["attributes"]
    attributes["spec"] = json.dumps(json.loads(attributes["spec"]) | {"n_fft": 1024})


def rewrite_json(path, change):
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def set_item(rows, at, value):
    rows[at] = value


def set_row_clip(store):
    values = np.repeat(np.arange(3, 6, dtype=np.int32), 309)
    values[400] = 3
    (store / "row_clip/c.1").write_bytes(encode_chunk(values))
    vouch(store, 1, "row_clip/c.1")


def swap_all(store):
    swap(shard(store, 1), shard(store, 2))
    swap(record(store, 1), record(store, 2))


def name_both_others(store):
    """Swap two shards, and let the records vouch for what is there now."""
    swap(shard(store, 0), shard(store, 1))
    for index in (0, 1):
        vouch(store, index, f"features/c.{index}.0")


DAMAGES = {
    "a bit of a chunk": (lambda store: flip(shard(store, 1), 1000), {"bytes": 1, "chunks": 1}),
    "a bit of the index": (lambda store: flip(shard(store, 1), -12), {"bytes": 1, "chunks": 1}),
    "a bit of the index's checksum": (lambda store: flip(shard(store, 1), -2), {"bytes": 1, "chunks": 1}),
    "a bit of a chunk's checksum": (lambda store: flip(shard(store, 1), -22), {"bytes": 1, "chunks": 1}),
    "a bit of row_clip": (lambda store: flip(store / "row_clip/c.2", 9), {"bytes": 1, "row_clip": 1}),
    "a missing shard": (lambda store: shard(store, 1).unlink(), {"bytes": 1}),
    "a missing row_clip": (lambda store: (store / "row_clip/c.3").unlink(), {"bytes": 1}),
    "a missing record": (lambda store: record(store, 2).unlink(), {"records": 1}),
    "a truncated shard": (lambda store: os.truncate(shard(store, 3), 5000), {"bytes": 1, "chunks": 1}),
    "an empty shard": (lambda store: os.truncate(shard(store, 3), 0), {"bytes": 1, "chunks": 1}),
    "swapped shards": (
        lambda store: swap(shard(store, 2), shard(store, 3)),
        {"bytes": 2, "mel": 6, "statistics": 2},
    ),
    "swapped records": (lambda store: swap(record(store, 2), record(store, 3)), {"records": 2}),
    "swapped shards and records": (swap_all, {"records": 2, "nan": 2}),
    "swapped shards that records vouch for": (name_both_others, {"nan": 2}),
    "no digests of columns, and no shape": (
        lambda store: [
            rewrite_json(store / "zarr.json", lambda group: group["attributes"].update(column_digests=None)),
            rewrite_json(store / "zarr.json", lambda group: group["consolidated_metadata"].update(metadata=None)),
        ],
        {"metadata": 24},
    ),
    "a record of another table": (
        lambda store: rewrite_record(store, 0, lambda old: replace(old, stamp=replace(old.stamp, fingerprint="f00"))),
        {"records": 1},
    ),
    "half a record": (lambda store: os.truncate(record(store, 0), 100), {"records": 1}),
    "a record that forgets a bad clip": (
        lambda store: rewrite_record(store, 1, lambda old: replace(old, bad={})),
        {"status": 1, "nan": 1},
    ),
    "row_clip of another clip": (set_row_clip, {"row_clip": 1}),
    "NaN in a good clip": (
        lambda store: rewrite_rows(store, 0, lambda rows: set_item(rows, (500, 7), np.nan)),
        {"nan": 1},
    ),
    "infinity in a good clip": (
        lambda store: rewrite_rows(store, 0, lambda rows: set_item(rows, (500, 7), -np.inf)),
        {"nan": 1, "range": 1},
    ),
    "a number in a bad clip": (
        lambda store: rewrite_rows(store, 1, lambda rows: set_item(rows, (800, 7), -3)),
        {"nan": 1},
    ),
    "a value above the maximum": (
        lambda store: rewrite_rows(store, 3, lambda rows: set_item(rows, (1, 1), 0.25)),
        {"range": 1, "frames": 1},
    ),
    "a value below the floor": (
        lambda store: rewrite_rows(store, 3, lambda rows: set_item(rows, (1, 1), -80.5)),
        {"range": 1, "frames": 1},
    ),
    "another value within the range": (
        lambda store: rewrite_rows(store, 2, lambda rows: set_item(rows, (330, 5), rows[330, 5] / 2)),
        {"frames": 1},
    ),
    "another loudness of a shard": (
        lambda store: rewrite_rows(store, 0, lambda rows: np.multiply(rows, np.float32(0.999), out=rows)),
        {"mel": 3, "statistics": 1},
    ),
    "n_rows of two clips": (
        lambda store: rewrite_column(store, "n_rows", [3, 4], [308, 310]),
        {"columns": 1, "plan": 1},
    ),
    "n_rows of the last clip": (lambda store: rewrite_column(store, "n_rows", 12, 1), {"columns": 1, "plan": 1}),
    "a negative n_rows": (lambda store: rewrite_column(store, "n_rows", 12, -1), {"columns": 1, "plan": 2}),
    "first_row": (lambda store: rewrite_column(store, "first_row", 7, 7 * 309 + 1), {"columns": 1, "plan": 1}),
    "a label that exists": (lambda store: rewrite_column(store, "label", 0, 1), {"columns": 1}),
    "a label that does not": (lambda store: rewrite_column(store, "label", 0, 2), {"columns": 1}),
    "a split": (lambda store: rewrite_column(store, "split", 0, "validation"), {"columns": 1}),
    "a machine": (lambda store: rewrite_column(store, "machine_id", 2, "id_04"), {"columns": 1}),
    "a good clip's status": (
        lambda store: rewrite_column(store, "status", 0, "not audio"),
        {"columns": 1, "status": 1},
    ),
    "the bad clip's status": (
        lambda store: rewrite_column(store, "status", BAD, "ok"),
        {"columns": 1, "status": 1},
    ),
    "no status": (lambda store: rewrite_column(store, "status", 12, ""), {"columns": 1}),
    "means": (lambda store: rewrite_column(store, "feature_mean", 300, -1.5), {"columns": 1, "statistics": 1}),
    "deviations": (lambda store: rewrite_column(store, "feature_std", 0, 0.5), {"columns": 1, "statistics": 1}),
    "a bit of a column": (lambda store: flip(store / "path/c.0", 20), {"columns": 1}),
    "a missing column": (lambda store: (store / "snr_db/c.0").unlink(), {"objects": 1, "columns": 1}),
    "metadata that is no JSON": (lambda store: flip(store / "label/zarr.json", 0), {"metadata": 1}),
    "metadata that is missing": (lambda store: (store / "features/zarr.json").unlink(), {"metadata": 1}),
    "another fill value": (
        lambda store: rewrite_json(store / "features/zarr.json", lambda array: array.update(fill_value=0.0)),
        {"metadata": 1},
    ),
    "another shape in consolidated metadata": (
        lambda store: rewrite_json(
            store / "zarr.json",
            lambda group: group["consolidated_metadata"]["metadata"]["features"].update(shape=[N_ROWS - 1, 320]),
        ),
        {"finished": 1},
    ),
    "another spec": (
        lambda store: rewrite_json(store / "zarr.json", another_spec),
        {"metadata": 1},
    ),
    "a shard too many": (lambda store: shutil.copy(shard(store, 0), shard(store, 4)), {"objects": 1}),
    "a record too many": (lambda store: shutil.copy(record(store, 0), record(store, 4)), {"objects": 1}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_by_name_and_the_advice_fixes_it(damage, raw, finished, damaged, check):
    act, expected = DAMAGES[damage]
    act(damaged)
    status, document = check(damaged)
    assert status == 1
    assert document["right"] is False
    assert {name: len(found) for name, found in findings(document).items()} == expected
    for key in document["delete"]:
        (damaged / key).unlink(missing_ok=True)
    assert document["then"][0].startswith("run the python -m jobs.featurize command")
    assert make(raw, damaged) == 0
    assert_same_bytes(damaged, finished)


@pytest.mark.parametrize(("key", "is_told"), [("path/c.0", True), ("first_row/c.0", False), ("features/c.1.0", False)])
def test_a_column_that_an_update_needs_may_want_overwriting(damaged, check, key, is_told):
    (damaged / key).unlink()
    status, document = check(damaged)
    assert status == 1
    assert any("only --overwrite makes the table again" in step for step in document["then"]) == is_told


def test_a_recording_whose_name_is_not_utf_8_is_compared(tmp_path, check):
    write_clip(tmp_path / "raw" / os.fsdecode(b"f\xffn.wav"), 1, 20_000)
    assert make(tmp_path / "raw", tmp_path / "out") == 0
    status, document = check(tmp_path / "out", "--against", tmp_path / "raw")
    assert status == 0
    assert document["checks"]["librosa"]["looked_at"] == 1


def test_a_good_store_is_correct_and_all_of_it_was_checked(finished, raw, check):
    status, document = check(finished, "--against", raw)
    assert status == 0
    assert document["right"] is True
    assert not findings(document)
    looked_at = {name: of["looked_at"] for name, of in document["checks"].items() if of["checked"]}
    assert looked_at == {
        "finished": 1,
        "metadata": 25,
        "objects": 1 + 24 + 19 + 3 + 3 * 4,
        "columns": 19,
        "plan": N_CLIPS,
        "records": 4,
        "bytes": 12,
        "chunks": 4,
        "row_clip": N_ROWS,
        "status": 12,
        "nan": N_ROWS,
        "range": N_ROWS,
        "frames": N_ROWS,
        "mel": 11,
        "statistics": 6,
        "recordings": 4,
        "librosa": 11,
    }
    assert (document["clips"], document["rows"], document["shards"]) == (N_CLIPS, N_ROWS, 4)
    assert 0 < document["largest_difference"]["db"] < 1e-3


def test_verify_changes_nothing(finished, damaged, raw, check):
    assert check(damaged, "--against", raw)[0] == 0
    assert_same_bytes(damaged, finished)


def test_findings_name_shard_clip_and_row(damaged, check):
    rewrite_rows(damaged, 2, lambda rows: set_item(rows, (310, 7), np.nan))
    _, document = check(damaged)
    [finding] = findings(document)["nan"]
    assert (finding["shard"], finding["clip"]) == (2, 7)
    assert f"the first is row {2 * 927 + 310}" in finding["problem"]
    assert finding["delete"] == "features/records/2.json"


def test_the_output_is_a_table_the_first_findings_and_what_to_do(damaged):
    for index in range(4):
        shard(damaged, index).unlink()
    for index in range(10, 20):
        shard(damaged, index).write_bytes(b"x")
    done = run("verify", damaged, "--workers", 2)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"store  {damaged}: 13 clips, 3,708 rows, 4 shards")
    assert [line.split()[0] for line in lines[3:21]] == list(CHECKS)
    assert "  features/c.0.0: is missing" in lines
    assert f"  rm {damaged}/features/c.19.0" in lines
    assert lines[-1] == f"{damaged} is not correct: 14 findings"
    assert done.stderr.splitlines()[0].startswith("4 tasks on 2 workers, dashboard ")


def test_of_many_findings_ten_are_printed(damaged, capfd):
    for index in range(10, 25):
        shard(damaged, index).write_bytes(b"x")
    assert call(damaged) == 1
    said = capfd.readouterr().out
    assert said.count(": is not part of this table") == 10
    assert "  and 5 more; all are in --json" in said


def test_quiet_prints_nothing_of_a_good_store(finished, capfd):
    assert call(finished, "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_the_table_and_the_document_say_the_same(damaged, check, capfd):
    flip(shard(damaged, 1), 1000)
    _, document = check(damaged)
    assert call(damaged) == 1
    said = capfd.readouterr().out
    for found in findings(document).values():
        for finding in found:
            assert f"  {finding['where']}: {finding['problem']}" in said
    for name, of in document["checks"].items():
        [line] = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        assert f"{of['looked_at']:,} " in line if of["checked"] else of["why_not"] in line


def test_foreign_files_are_noted_and_left_alone(damaged, check):
    (damaged / "notes.txt").write_text("mine")
    status, document = check(damaged)
    assert status == 0
    assert "notes.txt" in document["notes"][0]


def test_a_store_of_an_earlier_version_has_no_digests_and_is_correct(damaged, check):
    rewrite_json(damaged / "zarr.json", lambda group: group["attributes"].pop("column_digests"))
    status, document = check(damaged)
    assert status == 0
    assert "earlier version" in document["notes"][0]


@pytest.mark.parametrize("preset", ["explore", "autoencoder", "mimii-baseline", "dcase2020"])
def test_real_recordings_are_as_librosa_computes_them(preset, real_recordings, tmp_path, check):
    assert featurize_here(real_recordings, "--output", tmp_path / "out", "--preset", preset, "--quiet") == 0
    status, document = check(tmp_path / "out", "--against", real_recordings, "--sample", 8)
    assert status == 0, document
    assert document["checks"]["librosa"]["looked_at"] == 8
    assert 0 < document["largest_difference"]["db"] < 1e-3
    assert document["checks"]["range"]["checked"] == (preset in ("explore", "autoencoder"))


def test_other_parameters_are_compared_by_them(raw, tmp_path, check):
    other = ("--frames", 3, "--n-mels", 40, "--power", 1, "--preset", "mimii-baseline")
    assert make(raw, tmp_path / "out", *other) == 0
    status, document = check(tmp_path / "out", "--against", raw)
    assert status == 0, document


def test_a_clip_that_cannot_be_compared_hides_no_difference_of_others(finished, raw, tmp_path, check):
    shutil.copytree(raw, tmp_path / "raw")
    first = next(path for path in sorted((tmp_path / "raw").rglob("*.wav")) if path.stat().st_size > 1000)
    first.write_bytes(b"no sound")
    status, document = check(finished, "--against", tmp_path / "raw", "--sample", N_CLIPS)
    assert status == 1
    [finding] = findings(document)["librosa"]
    assert "cannot be read with librosa" in finding["problem"]
    assert 0 < document["largest_difference"]["db"] < 1e-3


def test_a_wrong_value_is_far_from_librosa(damaged, raw, check):
    rewrite_rows(damaged, 0, lambda rows: set_item(rows, (309 + 12, 34), rows[309 + 12, 34] - 0.01))
    status, document = check(damaged, "--against", raw)
    assert status == 1
    [finding] = findings(document)["librosa"]
    assert (finding["clip"], finding["shard"]) == (1, 0)
    assert "at 0.048 s, 1904 Hz (row 12 of the clip, feature 34)" in finding["problem"]
    assert document["largest_difference"]["db"] == pytest.approx(0.01, abs=1e-3)


def test_the_sample_is_drawn_by_the_seed(finished, raw, check):
    wheres = {
        seed: check(finished, "--against", raw, "--sample", 1, "--sample-seed", seed)[1]["largest_difference"]["where"]
        for seed in range(6)
    }
    assert len(set(wheres.values())) > 1
    again = check(finished, "--against", raw, "--sample", 1, "--sample-seed", 3)[1]
    assert again["largest_difference"]["where"] == wheres[3]


def test_a_recording_that_changed_makes_the_record_of_its_shard_stale(raw, tmp_path, check):
    source = Path(shutil.copytree(raw, tmp_path / "raw"))
    assert make(source, tmp_path / "out") == 0
    assert check(tmp_path / "out", "--against", source)[0] == 0
    path = sorted(source.rglob("*.wav"))[4]
    write_clip(path, 1234, 20_000)
    status, document = check(tmp_path / "out", "--against", source)
    assert status == 1
    assert [finding["shard"] for finding in findings(document)["recordings"]] == [1]
    assert [finding["clip"] for finding in findings(document)["librosa"]] == [4]
    assert make(source, tmp_path / "out") == 0
    assert check(tmp_path / "out", "--against", source)[0] == 0


def test_recordings_that_were_moved_are_matched_by_the_end_of_their_paths(finished, raw, tmp_path, check):
    moved = Path(shutil.copytree(raw, tmp_path / "elsewhere"))
    status, document = check(finished, "--against", moved)
    assert status == 0
    assert document["checks"]["librosa"]["looked_at"] == 11
    assert document["checks"]["recordings"]["looked_at"] == 4  # copies have the same times
    assert "13 of 13 clips have a recording: 13 by end of path" in document["notes"]


def test_with_copies_of_other_times_it_is_unknown_whether_recordings_changed(finished, raw, tmp_path, check):
    copied = tmp_path / "elsewhere"
    for path in raw.rglob("*.wav"):
        (copied / path.relative_to(raw)).parent.mkdir(parents=True, exist_ok=True)
        (copied / path.relative_to(raw)).write_bytes(path.read_bytes())
    status, document = check(finished, "--against", copied)
    assert status == 0
    assert document["checks"]["recordings"]["checked"] is False
    assert any("unknown whether recordings have changed: 4." in note for note in document["notes"])


def test_members_of_an_archive_are_compared_too(finished, raw, tmp_path, check):
    with zipfile.ZipFile(tmp_path / "6_dB_fan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(raw.rglob("*.wav"))[:4]:
            archive.write(path, path.relative_to(raw / "6_dB_fan"))
    status, document = check(finished, "--against", tmp_path / "6_dB_fan.zip")
    assert status == 0
    assert document["checks"]["librosa"]["looked_at"] == 4
    assert "4 of 13 clips have a recording" in document["notes"][0]


@pytest.mark.parametrize("n_clips", [0, 1])
def test_recordings_without_any_match_are_refused(finished, tmp_path, capfd, n_clips):
    (tmp_path / "other").mkdir()
    for index in range(n_clips):
        write_clip(tmp_path / "other/sound.wav", index)
    assert verify.main([str(finished), "--against", str(tmp_path / "other"), "--scheduler", "sync"]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    found = ("0 recordings", "1 recording")[n_clips]
    assert printed.err == (
        f"verify: --against: {found} found, and none is a clip of {finished}; name those it was made from\n"
    )


def test_threads_find_the_same(damaged, raw, check):
    rewrite_rows(damaged, 2, lambda rows: set_item(rows, (310, 7), np.nan))
    found = check(damaged, "--against", raw, "--scheduler", "threads", "--workers", 2)
    assert found == check(damaged, "--against", raw)
    assert found[0] == 1


def test_stores_and_recordings_on_s3(server, raw, use, check):
    use(server)
    client(server).create_bucket(Bucket="factory")
    files = filesystem(server)
    files.put(str(raw), "factory/raw", recursive=True)
    output = "s3://factory/out.zarr"
    assert make("s3://factory/raw", output) == 0
    status, document = check(output, "--against", "s3://factory/raw", "--sample", 3)
    assert status == 0, document
    assert document["checks"]["recordings"]["looked_at"] == 4
    assert document["checks"]["librosa"]["looked_at"] == 3
    data = bytearray(files.cat_file("factory/out.zarr/features/c.1.0"))
    data[500] ^= 1
    files.pipe_file("factory/out.zarr/features/c.1.0", bytes(data))
    files.rm_file("factory/out.zarr/row_clip/c.3")
    status, document = check(output)
    assert status == 1
    assert {name: [one["shard"] for one in found] for name, found in findings(document).items()} == {
        "bytes": [1, 3],
        "chunks": [1],
    }


@pytest.mark.parametrize("arguments", [[], ["--complete", "6_dB_fan"]])
def test_part_of_mimii_is_correct_unless_all_was_asked_for(arguments, finished, check):
    status, document = check(finished, *arguments)
    assert status == bool(arguments)
    assert "of 48 machines of MIMII (types, ids and SNRs), 3 are here, 0 of them with all" in document["notes"][-1]
    if arguments:
        found = {finding["where"]: finding["problem"] for finding in findings(document)["published"]}
        assert found["fan id_04 6 dB"] == "0 normal and 0 abnormal recordings here, 1033 and 348 are published"
        assert len(found) == 4
        assert document["then"][0].startswith("check which archives are complete")


def test_an_unfinished_store_is_not_correct(damaged, raw, check):
    rewrite_json(damaged / "zarr.json", lambda group: group.update(consolidated_metadata=None))
    record(damaged, 3).unlink()
    status, document = check(damaged)
    assert status == 1
    [finding] = findings(document)["finished"]
    assert finding["problem"].startswith("is not finished, shards done so far: 3.")
    assert make(raw, damaged) == 0
    assert check(damaged)[0] == 0


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_store_without_its_group_is_not_correct(damage, damaged, check):
    damage(damaged / "zarr.json")
    status, document = check(damaged)
    assert status == 1
    assert "Delete the whole store" in findings(document)["metadata"][0]["problem"]


def test_other_outputs_are_refused_with_what_to_do(raw, tmp_path, check):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    images = str(tmp_path / "images")
    assert render.main([str(raw), "--output", images, "--scheduler", "sync", "--max-bad", "2", "--quiet"]) == 0
    for name, words in {
        "nothing": "there is nothing there. Make a table first: python -m jobs.featurize",
        "other": "what is there is no table of features; name the --output",
        "other/file": "what is there is no table of features; name the --output",
        "images": "a set of images; run python -m jobs.render",
    }.items():
        status, said = check(tmp_path / name)
        assert status == 2, name
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against", "nowhere"], "nowhere: no such file or folder"),
        (["--sample", 3], "--sample: needs --against"),
        (["--complete", "7_dB_fan"], "no such archive"),
        (["--workers", 2, "--scheduler", "tcp://127.0.0.1:1"], "--workers"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, words, finished, check):
    status, said = check(finished, *arguments)
    assert status == 2
    assert words in said


def test_without_librosa_nothing_can_be_compared(finished, raw, check, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "librosa" else object())
    status, said = check(finished, "--against", raw)
    assert status == 2
    assert "librosa is not installed: pip install librosa" in said


def test_the_store_alone_needs_no_librosa(finished, check, monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    assert check(finished)[0] == 0


def test_a_store_that_cannot_be_read_is_not_called_correct(damaged, check):
    shard(damaged, 1).unlink()
    shard(damaged, 1).mkdir()
    status, said = check(damaged)
    assert status == 1
    assert "It is not known whether the table is correct" in said


def test_a_store_without_rows_is_correct_where_no_clip_could_be_used(tmp_path, check):
    write_clip(tmp_path / "raw/short.wav", 1, 100)
    assert make(tmp_path / "raw", tmp_path / "out") == 0
    status, document = check(tmp_path / "out", "--against", tmp_path / "raw")
    assert status == 0
    assert document["checks"]["chunks"] == {"checked": False, "why_not": "there are no rows"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Clips of odd lengths, which straddle shards; one of these turns out to be bad."""
    root = tmp_path_factory.mktemp("odd") / "raw"
    for index, n_samples in enumerate((160_000, 100_001, 700_123, 16_000, 54_321)):
        write_clip(root / f"normal/{index}.wav", index, n_samples)
    samples = noise(77, 650_000)[:, 0] / 32768
    samples[-1] = np.nan
    soundfile.write(root / "normal/5.wav", samples, 16_000, subtype="FLOAT")
    output = root.parent / "out"
    assert featurize_here(root, "--output", output, "--max-bad", 1, "--quiet", "--split", "none") == 0
    return root, output


def test_clips_that_straddle_shards_are_correct(odd, check):
    root, output = odd
    status, document = check(output, "--against", root)
    assert status == 0, document
    assert document["shards"] > 3
    assert document["checks"]["status"]["looked_at"] == 6  # each clip once
    assert document["checks"]["librosa"]["looked_at"] == 5


def test_what_is_far_from_librosa_is_in_the_shard_that_has_it(odd, tmp_path, check):
    root, output = odd
    store = Path(shutil.copytree(output, tmp_path / "out"))
    table = zarr.open_group(store, mode="r")
    first, count, [shard_rows, _] = int(table["first_row"][2]), int(table["n_rows"][2]), table["features"].shards
    row = first + count - 1
    assert first // shard_rows < row // shard_rows
    array = zarr.open_array(store / "features", mode="r+")
    array[row, 5] -= 0.5
    status, document = check(store, "--against", root)
    assert status == 1
    [finding] = findings(document)["librosa"]
    assert (finding["clip"], finding["shard"]) == (2, row // shard_rows)
    assert f"(row {count - 1} of the clip, feature 5)" in finding["problem"]


def test_an_interrupt_ends_with_130(finished, check, monkeypatch):
    def interrupt(_task):
        raise KeyboardInterrupt

    monkeypatch.setattr(verdict, "check_shard", interrupt)
    status, said = check(finished)
    assert status == 130
    assert "Nothing was changed" in said


def test_the_page_names_every_check_and_only_options_that_are_there():
    page = (ROOT / "docs/verify.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(CHECKS)
    options = set(re.findall(r"--[a-z][a-z-]*", verify.make_parser().format_help()))
    assert set(re.findall(r"--[a-z][a-z-]*", page)) <= options | {"--clips", "--shard-mib", "--update"}
    assert {"--against", "--sample", "--sample-seed", "--complete", "--json", "--quiet"} <= set(
        re.findall(r"--[a-z-]+", page)
    )


def test_help_imports_nothing_heavy():
    heavy = ("dask", "zarr", "numpy", "librosa", "matplotlib")
    script = (
        "import sys, jobs.verify; jobs.verify.make_parser().format_help(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python_takes_sources_and_clips(finished, raw):
    by_source = verification.verify(str(finished), str(raw), sample=4)
    by_clips = verification.verify(str(finished), find_recordings(str(raw)), sample=4)
    assert by_source == by_clips == verification.verify(str(finished), [str(raw)], sample=4)
    assert by_source.is_right
    assert by_source.checks["librosa"].n == 4
    assert repr(by_source) == f"<Verdict: {finished} is complete and correct; 17 of 18 checks were made>"


def test_python_gets_the_findings(damaged):
    flip(shard(damaged, 1), 1000)
    found = verification.verify(str(damaged))
    assert not found.is_right
    assert [(finding.check, finding.shard) for finding in found.findings] == [("bytes", 1), ("chunks", 1)]
    assert repr(found) == (
        f"<Verdict: {damaged} is not correct, findings: bytes 1, chunks 1; 15 of 18 checks were made>"
    )


def test_without_any_recording_it_is_refused(finished):
    with pytest.raises(SourceError, match="0 recordings found, and none is a clip of"):
        verification.verify(str(finished), [])


def test_a_scheduler_that_is_lost_is_connected_to_again(damaged, raw, check, monkeypatch, caplog):
    """Its connection is lost once, after the first result."""
    flip(shard(damaged, 1), 1000)
    undisturbed, compute, computed = check(damaged, "--against", raw), runs.compute, []

    def lose(cluster, pipeline, tasks):
        for number, result in compute(cluster, pipeline, tasks):
            yield number, result
            computed.append(number)
            if len(computed) == 1:
                raise LostError(str(cluster))

    monkeypatch.setattr(runs, "compute", lose)
    assert check(damaged, "--against", raw) == undisturbed
    assert computed == [*range(4), *range(4, 4 + 11)]
    assert "; connecting again" in caplog.text


def test_progress_is_counted_in_checks_since_sampled_clips_are_checked_twice(finished, raw, capfd):
    assert verify.main([str(finished), "--scheduler", "sync", "--against", str(raw)]) == 0
    n_checks = 12 + 11
    assert re.search(rf"{n_checks}/{n_checks} checks, \d+ checks/s, 0 s left, 0 findings", capfd.readouterr().err)
