"""Headers that libsndfile reads are read in a process that may die: a recording that kills it is a bad clip."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mimii
from mimii.engine import Where, connect
from mimii.recordings import find_clips, read_clip_header
from mimii.recordings import probing as probing_module
from mimii.storage import StorageError
from tests.helpers.commands import ROOT, featurize_here, open_table, wait_for
from tests.helpers.dask_processes import run_tasks
from tests.helpers.faults import Run, deadly_headers
from tests.helpers.odd_files import damaged_mp3s, encoded, mp3_without_length, noise, samples_of
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client

pytestmark = pytest.mark.usefixtures("headers_in_children")
N_FLACS = 24
KILLS = "reading it kills the process ({})".format


def flac(number):
    return encoded(noise(number, 4000 + number), "FLAC", "PCM_16")


@pytest.fixture
def raw(tmp_path):
    """Write some FLACs, each of its own length, and a 16-bit WAV."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(N_FLACS):
        (folder / f"{number:02d}.flac").write_bytes(flac(number))
    write_clip(folder / "a.wav", 99, 5000)
    return folder


@pytest.fixture
def harm(tmp_path, monkeypatch):
    """Let headers of recordings, by name, do harm to the child that reads them."""

    def harm(**deeds):
        named = {f"{name.removeprefix('clip')}.flac": deed for name, deed in deeds.items()}
        for variable, value in deadly_headers(tmp_path / "deadly", named).items():
            monkeypatch.setenv(variable, value)

    return harm


def problems(clips):
    return {Path(clip.path).stem: clip.problem for clip in clips if clip.problem}


def lengths(clips):
    return {Path(clip.path).stem: clip.header.n_samples for clip in clips if clip.header}


def expected_lengths(*but):
    return {f"{number:02d}": 4000 + number for number in range(N_FLACS) if f"{number:02d}" not in but} | {"a": 5000}


def test_a_child_reads_what_this_process_reads(raw):
    for name, data in damaged_mp3s().items():
        (raw / name).write_bytes(data)
    (raw / "text.flac").write_bytes(b"no sound" * 100)
    (raw / "empty.ogg").touch()
    clips = find_clips([str(raw)])
    assert list(mimii.find_recordings(raw)) == [read_clip_header(clip) for clip in clips]
    assert len(clips) == N_FLACS + 5


def test_headers_that_kill_are_problems_of_their_clips_and_of_no_other(raw, harm):
    harm(clip00="SIGSEGV", clip07="SIGABRT", clip08="exit", clip09="no sound", clip23="SIGKILL")
    clips = mimii.find_recordings(raw)
    assert problems(clips) == {
        "00": KILLS("SIGSEGV"),
        "07": KILLS("SIGABRT"),
        "08": KILLS("exit status 1"),
        "09": "no sound",
        "23": "not enough memory for it: the process that read it was killed",
    }
    assert lengths(clips) == expected_lengths("00", "07", "08", "09", "23")


def test_headers_on_s3_are_read_many_at_a_time_and_those_that_kill_are_found(harm, moto, use):
    use(moto)
    client(moto).create_bucket(Bucket="deadly")
    for number in range(N_FLACS):
        client(moto).put_object(Bucket="deadly", Key=f"raw/{number:02d}.flac", Body=flac(number))
    quiet = mimii.find_recordings("s3://deadly/raw")
    assert (problems(quiet), len(lengths(quiet))) == ({}, N_FLACS)
    assert quiet.n_requests >= N_FLACS, "those of the child count, too"
    harm(clip03="SIGSEGV", clip20="SIGBUS")
    clips = mimii.find_recordings("s3://deadly/raw")
    assert problems(clips) == {"03": KILLS("SIGSEGV"), "20": KILLS("SIGBUS")}
    assert lengths(clips) == {name: n for name, n in lengths(quiet).items() if name not in ("03", "20")}


def test_storage_that_cannot_be_used_is_no_fault_of_a_recording(raw, harm):
    harm(clip04="storage")
    with pytest.raises(StorageError, match=r"^the storage is gone$"):
        mimii.find_recordings(raw)


def test_a_header_that_kills_is_a_clip_of_the_table_with_the_reason(raw, harm, tmp_path, capsys):
    harm(clip05="SIGSEGV")
    assert featurize_here(raw, "--output", tmp_path / "out") == 3
    assert KILLS("SIGSEGV") in capsys.readouterr().out
    table = open_table(tmp_path / "out")
    bad = {Path(path).stem: why for path, why in zip(table.path.values, table.status.values, strict=True)}
    assert {name: why for name, why in bad.items() if why != "ok"} == {"05": KILLS("SIGSEGV")}


def test_16_bit_wav_needs_no_child(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(probing_module, "start_child", fail)
    for number in range(3):
        write_clip(tmp_path / f"{number}.wav", number, 700 + number)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "2.wav").read_bytes()[:500])
    clips = mimii.find_recordings(tmp_path)
    assert lengths(clips) == {"0": 700, "1": 701, "2": 702}
    assert problems(clips) == {"cut": "truncated: the header promises 1404 bytes of samples, the file holds 420"}
    (tmp_path / "3.flac").write_bytes(flac(3))
    with pytest.raises(AssertionError):
        mimii.find_recordings(tmp_path)


def test_mp3s_without_length_are_counted(tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3_without_length(samples_of(noise(1, 48_000))))
    assert lengths(mimii.find_recordings(tmp_path)) == {"a": 43 * 1152}


def test_what_a_child_logs_is_logged_with_the_name_of_the_clip(tmp_path, caplog):
    for name, data in damaged_mp3s().items():
        (tmp_path / name).write_bytes(data)
    caplog.set_level(logging.DEBUG, "mimii")
    mimii.find_recordings(tmp_path)
    said = [record.getMessage() for record in caplog.records if record.name == "mimii.features.messages"]
    assert any(f"{tmp_path}/gap.mp3: " in line and "Illegal Audio-MPEG-Header" in line for line in said)
    assert {record.levelno for record in caplog.records if record.getMessage() in said} == {logging.DEBUG}


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import mimii
print({{clip.path[-7:]: clip.header.n_samples for clip in mimii.find_recordings({raw!r})}})
"""


def test_a_script_without_a_guard_that_sets_its_path_itself_finds_recordings(raw, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit('not the json of Python')")
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT), raw=str(raw)))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        cwd=tmp_path / "elsewhere",
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "'23.flac': 4023" in done.stdout


def find_lengths(folder):
    return lengths(mimii.find_recordings(folder))


@pytest.mark.slow
def test_a_worker_of_dask_finds_recordings(raw):
    with connect(Where("local", 1)) as cluster:
        assert list(run_tasks(cluster, find_lengths, [str(raw)])) == [expected_lengths()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent(raw, tmp_path, number):
    variables = deadly_headers(tmp_path / "deadly", {"11.flac": "wait"})
    run = Run(raw, tmp_path / "out", "--scheduler", "sync", **variables)
    try:
        run.wait_for((tmp_path / "deadly" / "waits").exists, "the child")
        assert len(run.alive()) == 2
        run.process.send_signal(number)
        assert run.wait() == (-number if number == signal.SIGKILL else 128 + number)
        wait_for(lambda: not run.alive(), "the end of the child")
        assert "Traceback" not in run.text()
    finally:
        run.end()


def test_a_child_that_cannot_start_is_no_fault_of_a_recording(raw, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("cat"))
    with pytest.raises(OSError, match=r"in a process of its own: its exit status was 1, .*--help"):
        mimii.find_recordings(raw)
