"""Tables that grow, with processes: readers meanwhile, kills at any moment, two updates at once; disk and S3."""

import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

import mimii
from mimii.engine import runs
from tests.helpers.commands import assert_same_bytes, contents, featurize_here, open_table, wait_for
from tests.helpers.faults import Run
from tests.helpers.proxy import proxy_to
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import CHECKSUMS, rclone_server

N_SAMPLES = 8000
SMALL = ("--n-mels", 16, "--n-fft", 512, "--hop-length", 128)
"""59 rows of 80 values: a clip is 19 kB, a shard of a MiB is 55 clips."""

OTHER = ("--n-mels", 16, "--n-fft", 512, "--hop-length", 256)
BUCKET = "factory"


def write_some(folder, numbers):
    for number in numbers:
        write_clip(folder / "press" / "id_01" / "normal" / f"{number:08d}.wav", number, N_SAMPLES)
    return folder


def expected_rows(folder, hop_length):
    """Compute the rows of all recordings below a folder, by name."""
    spec = mimii.FeatureSpec(n_mels=16, n_fft=512, hop_length=hop_length)
    found = {}
    for path in Path(folder).rglob("*.wav"):
        decibel = mimii.log_mel(str(path), spec)
        found[path.name] = np.array([decibel[row : row + 5].ravel() for row in range(len(decibel) - 4)])
    return found


class Reader:
    """A thread that opens the table and reads a clip of it, again and again."""

    def __init__(self, url, expected, **how):
        self.url, self.expected, self.how, self.rng = url, expected, how, random.Random(1)
        self.n_read, self.wrong, self.seen, self.ended = 0, [], set(), threading.Event()
        self.thread = threading.Thread(target=self.read)

    def read(self):
        while not self.ended.is_set() and not self.wrong:
            try:
                self.read_one()
            except Exception as error:  # noqa: BLE001  a reader must see none at all
                self.wrong.append(repr(error))

    def read_one(self):
        table = xarray.open_zarr(self.url, **self.how)
        clip = self.rng.randrange(len(table.path))
        first, count = int(table.first_row[clip]), int(table.n_rows[clip])
        name, there = Path(str(table.path[clip].values)).name, table.features[first : first + count].values
        if not any(np.array_equal(there, rows[name]) for rows in self.expected):
            self.wrong.append(f"{name}: {there}")
        if (table.status.values != "ok").any() or not np.isfinite(table.mel_mean.values).all():
            self.wrong.append(f"{table.status.values} {table.mel_mean.values}")
        self.seen.add((len(table.path), count))
        self.n_read += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", "S3"])
def test_readers_find_each_clip_right_while_a_table_grows_and_is_made_anew(where, tmp_path, use, monkeypatch):
    raw = write_some(tmp_path / "raw", range(60))
    write_some(tmp_path / "more", range(60, 65))
    expected = [expected_rows(tmp_path, hop_length) for hop_length in (128, 256)]
    if where == "disk":
        read_meanwhile(tmp_path, raw, tmp_path / "out", expected, monkeypatch)
        return
    (tmp_path / "objects" / BUCKET).mkdir(parents=True)
    with rclone_server(tmp_path / "objects") as server:
        use(server)
        options = {"config_kwargs": CHECKSUMS, "use_listings_cache": False, "skip_instance_cache": True}
        read_meanwhile(tmp_path, raw, f"s3://{BUCKET}/out", expected, monkeypatch, storage_options=options)


def wait_for_reader(reader, monkeypatch):
    """Have what was replaced stay until the reader has opened the new table, not for seconds; return who waited."""
    waited, delete = [], runs._delete_replaced

    def wait_and_delete(output, keys, *, has_readers):
        if keys:
            waited.append(has_readers)
            n_read = reader.n_read
            wait_for(lambda: reader.n_read > n_read or reader.wrong, "the end of what was being read")
        delete(output, keys, has_readers=has_readers)

    monkeypatch.setattr(runs, "_delete_replaced", wait_and_delete)
    return waited


def read_meanwhile(tmp_path, raw, output, expected, monkeypatch, **how):
    assert featurize_here(raw, "--output", output, *SMALL) == 0
    with Reader(str(output), expected, **how) as reader:
        waited = wait_for_reader(reader, monkeypatch)
        wait_for(lambda: reader.n_read or reader.wrong, "a reader of the first table")
        for source, options in (("more", ["--update"]), ("raw", ["--overwrite", *OTHER])):
            assert featurize_here(tmp_path / source, "--output", output, *options) == 0
            n_read = reader.n_read
            wait_for(lambda n_read=n_read: reader.n_read > n_read + 1 or reader.wrong, "readers of the new table")
    assert waited == [True], "only a table that is made anew deletes what is read"
    assert reader.wrong == []
    assert reader.seen == {(60, 59), (65, 59), (60, 28)}


# Kills


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Return a folder with recordings of some nights, and the table of the first."""
    folder = tmp_path_factory.mktemp("nights")
    for night in range(4):
        write_some(folder / f"night-{night}", range(60 * night, 60 * night + (60 if night == 0 else 20)))
    assert featurize_here(folder / "night-0", "--output", folder / "out", *SMALL) == 0
    return folder


def update_of(nights, night, output):
    return Run(nights / f"night-{night}", output, "--update", "--scheduler", "sync", how=())


def update_here(nights, night, output):
    assert featurize_here(nights / f"night-{night}", "--output", output, "--update") == 0


N_KILLS = 3


@pytest.mark.slow
def test_updates_that_are_killed_and_run_again_end_in_the_same_bytes(nights, tmp_path):
    rng, output, undisturbed = random.Random(1), tmp_path / "out", tmp_path / "undisturbed"
    for place in (output, undisturbed):
        shutil.copytree(nights / "out", place)
    began = time.monotonic()
    assert update_of(nights, 1, undisturbed).wait() == 0
    seconds = time.monotonic() - began
    for night in (2, 3):
        update_here(nights, night, undisturbed)
    for number in range(N_KILLS):
        run = update_of(nights, 1 + number * 3 // N_KILLS, output)
        deadline = time.monotonic() + rng.uniform(0.3, 1) * seconds
        wait_for(lambda run=run, deadline=deadline: run.ended() or time.monotonic() > deadline, "a moment")
        run.kill()
        if number % (N_KILLS // 3) == N_KILLS // 3 - 1:
            update_here(nights, 1 + number * 3 // N_KILLS, output)
    assert_same_bytes(output, undisturbed)


# Two at once

N_PAIRS = 1


@pytest.mark.slow
def test_of_two_updates_at_once_one_is_refused_or_both_succeed_and_nothing_is_lost(nights, tmp_path):
    for number in range(N_PAIRS):
        output = tmp_path / f"out-{number}"
        shutil.copytree(nights / "out", output)
        runs = [update_of(nights, night, output) for night in (1, 2)]
        statuses = [run.wait() for run in runs]
        assert sorted(statuses) in ([0, 0], [0, 1]), [run.text() for run in runs]
        for status, run in zip(statuses, runs, strict=True):
            assert status == 0 or "another run writes other results to it (process" in run.text()
        for night in (1, 2):
            update_here(nights, night, output)
        table = open_table(output)
        assert len(set(table.path.values.tolist())) == len(table.path) == 100
        assert set(table.status.values) == {"ok"}
        assert mimii.verify(str(output)).is_right
        assert not [name for name in contents(output) if name.startswith("lease-")]


# On S3


@pytest.fixture
def proxy(tmp_path, use):
    (tmp_path / "objects" / BUCKET).mkdir(parents=True)
    with rclone_server(tmp_path / "objects") as server, proxy_to(server) as proxy:
        yield use(proxy)


def test_a_table_on_s3_grows_is_pruned_and_made_anew_and_an_update_with_nothing_new_takes_few_requests(
    proxy, tmp_path, monkeypatch
):
    monkeypatch.setattr(runs, "SECONDS_FOR_READERS", 0.0)
    raw, output = write_some(tmp_path / "raw", range(60)), f"s3://{BUCKET}/out"
    assert featurize_here(raw, "--output", output, *SMALL) == 0
    write_some(raw, range(60, 65))
    next(raw.rglob("00000007.wav")).unlink()
    assert featurize_here(raw, "--output", output, "--update", "--prune") == 0
    before = len(proxy.finished())
    assert featurize_here(raw, "--output", output, "--update", "--prune") == 0
    requests = proxy.finished()[before:]
    assert {one.method for one in requests} == {"GET"}
    assert len(requests) <= MOST_REQUESTS
    table = read_from(output)
    gone = [str(path).endswith("00000007.wav") for path in table.path.values]
    assert np.array_equal(table.status.values == "removed", gone)
    assert (np.isnan(table.features.values).all(axis=1) == np.array(gone)[table.row_clip.values]).all()
    assert featurize_here(raw, "--output", output, "--overwrite", *OTHER) == 0
    table, expected = read_from(output), expected_rows(raw, 256)
    for clip, path in enumerate(table.path.values):
        rows = table.features.values[table.row_clip.values == clip]
        np.testing.assert_array_equal(rows, expected[Path(str(path)).name])
    assert mimii.verify(output).is_right


MOST_REQUESTS = 28
"""The head 5 times, 9 columns, 2 listings, 2 records twice."""


def read_from(output):
    options = {"config_kwargs": CHECKSUMS, "use_listings_cache": False, "skip_instance_cache": True}
    return xarray.open_zarr(output, storage_options=options).load()


def test_new_clips_are_split_as_the_options_of_the_update_say(tmp_path):
    output = tmp_path / "table"
    write_machines(tmp_path / "raw", 4)
    how = ("--split", "stratified", "--update", "--output", output)
    assert featurize_here(tmp_path / "raw", *how, "--train-fraction", 1) == 0
    write_machines(tmp_path / "raw", 8)
    assert featurize_here(tmp_path / "raw", "--update", "--output", output, "--train-fraction", 0) == 0
    assert mimii.open_table(output).split.values.tolist().count("train") == 4


def test_the_summary_tells_clips_that_are_gone_or_were_bad_before_from_good_ones(tmp_path, capsys):
    raw, output = write_some(tmp_path / "raw", range(6)), tmp_path / "table"
    folder = raw / "press" / "id_01" / "normal"
    folder.joinpath("00000000.wav").write_bytes(b"")
    assert featurize_here(raw, "--output", output, *SMALL) == 3
    assert "clips    6: 5 good, 1 bad\n" in capsys.readouterr().out
    folder.joinpath("00000001.wav").unlink()
    write_clip(folder / "00000002.wav", 2, 2 * N_SAMPLES)
    assert featurize_here(raw, "--output", output, "--update", "--prune") == 3
    assert "clips    7: 4 good, 1 bad, 1 removed, 1 replaced\n" in capsys.readouterr().out
    tonight = write_some(tmp_path / "tonight", [6])
    assert featurize_here(tonight, "--output", output, "--update") == 0
    assert "clips    8: 5 good, 0 bad, 1 bad before, 1 removed, 1 replaced\n" in capsys.readouterr().out
