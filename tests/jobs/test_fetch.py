"""The fetch command: which archives, two at a time, and what it prints."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from types import SimpleNamespace

import pytest

from jobs import fetch
from mimii.recordings.zenodo import Archive
from mimii.storage.downloads import Retrying
from tests.helpers.commands import ROOT, environment, featurize_here, open_table, run_here, wait_for
from tests.helpers.http_server import Behaviour, serve
from tests.helpers.recordings import write_machines
from tests.helpers.servers import client

CONTENTS = {
    f"{snr}_dB_{machine}": random.Random(f"{snr} {machine}").randbytes(200_000)
    for snr in (-6, 6)
    for machine in ("fan", "pump", "valve")
}
QUICK = Retrying(tries=2, first_wait=0.01, longest_wait=0.01, timeouts=(300.0, 300.0))


def archive(name, content, *, size=True):
    snr, machine_type = name.split("_dB_")
    md5 = hashlib.md5(content).hexdigest()  # noqa: S324  as published
    return Archive(int(snr), machine_type, md5, len(content) if size else None)


ARCHIVES = tuple(archive(name, content, size="valve" not in name) for name, content in CONTENTS.items())


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({f"/mimii/{name}.zip": content for name, content in CONTENTS.items()}) as web:
        yield web


@pytest.fixture
def get(web, tmp_path):
    """Return the command, for these archives."""

    def get(*arguments, dest=tmp_path / "raw"):
        given = [*map(str, arguments), "--dest", str(dest), "--base-url", f"{web.url}/mimii"]
        return fetch.main(given, ARCHIVES, QUICK)

    return get


def fetched(folder):
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def test_one_archive(get, tmp_path, capsys):
    assert get("6_dB_fan") == 0
    assert fetched(tmp_path / "raw") == {"6_dB_fan": CONTENTS["6_dB_fan"]}
    printed = capsys.readouterr().out
    assert re.search(r"6_dB_fan\.zip: fetched, 200\.0 kB in \d+ s, MD5 correct", printed)
    assert f"next: python -m jobs.featurize {tmp_path / 'raw'}" in printed
    assert "CC BY-SA 4.0" in printed


def test_a_name_that_begins_with_a_minus(get, tmp_path):
    assert get("-6_dB_fan", "-6dB_valve") == 0
    assert sorted(fetched(tmp_path / "raw")) == ["-6_dB_fan", "-6_dB_valve"]


def test_all_and_then_nothing_is_left_to_do(get, web, tmp_path, capsys):
    assert get("all") == 0
    assert fetched(tmp_path / "raw") == CONTENTS
    n_gets = len(web.gets())
    assert get("all") == 0
    assert len(web.gets()) == n_gets
    assert capsys.readouterr().out.count("there already, 200.0 kB, MD5 correct") == len(CONTENTS)


def test_at_most_two_are_fetched_at_once(get, web):
    both = threading.Barrier(2)

    def together(asked):
        if asked.method == "GET":
            both.wait()  # each waits for another: less than two at once would never end
        return Behaviour()

    web.lock = _NoLock()
    web.behave = together
    assert get("all") == 0
    assert web.most_at_once == 2


class _NoLock:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_one_that_fails_does_not_stop_the_others(get, web, tmp_path, capsys):
    web.files["/mimii/6_dB_pump.zip"] = b"x" * 200_000
    del web.files["/mimii/-6_dB_fan.zip"]
    assert get("all") == 1
    assert sorted(fetched(tmp_path / "raw")) == ["-6_dB_pump", "-6_dB_valve", "6_dB_fan", "6_dB_valve"]
    printed = capsys.readouterr().err
    assert f"-6_dB_fan.zip: FAILED: {web.url}/mimii/-6_dB_fan.zip: the server answers 404" in printed
    assert "6_dB_pump.zip: FAILED:" in printed
    assert "another checksum" in printed
    assert "2 of 6 archives could not be downloaded; run the same command again to resume" in printed


def test_another_file_of_that_name_is_left_alone(get, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "6_dB_fan.zip").write_bytes(b"mine")
    (tmp_path / "raw" / "notes.txt").write_bytes(b"mine, too")
    assert get("6_dB_fan") == 1
    assert "left alone" in capsys.readouterr().err
    assert fetched(tmp_path / "raw") == {"6_dB_fan": b"mine", "notes": b"mine, too"}


def test_verify_only(get, web, tmp_path, capsys):
    assert get("6_dB_fan", "6_dB_pump") == 0
    web.asked.clear()
    assert get("6_dB_fan", "6_dB_pump", "--verify-only") == 0
    assert capsys.readouterr().out.count(": correct") == 2
    (tmp_path / "raw" / "6_dB_pump.zip").write_bytes(CONTENTS["6_dB_fan"])
    assert get("6_dB", "--verify-only") == 1
    printed = "".join(capsys.readouterr())
    assert "6_dB_fan.zip: correct" in printed
    assert "6_dB_pump.zip: has the MD5" in printed
    assert "6_dB_valve.zip: is missing" in printed
    assert f"2 of 3 archives in {tmp_path}/raw are missing or wrong; without --verify-only" in printed
    assert web.asked == []


def test_list(get, web, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "6_dB_fan.zip").write_bytes(CONTENTS["6_dB_fan"])
    (tmp_path / "raw" / "6_dB_pump.zip").write_bytes(b"half")
    assert get("--list") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["archive", "bytes", "MD5"]
    assert len(lines) == len(CONTENTS)
    rows = {line.split()[0]: line for line in lines}
    assert rows["6_dB_fan"].endswith(" there")
    assert rows["6_dB_pump"].endswith("there, but 4 bytes")
    assert "not known" in rows["6_dB_valve"]
    assert web.asked == []


def test_list_names_the_archives_of_zenodo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("fetch", "--list-archives")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 13
    assert "10,158,673,161  0890f7d3c2fd8448634e69ff1d66dd47" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], "which archives?"),
        (["6_dB_fam"], "did you mean 6_dB_fan?"),
        (["all", "--dest", ""], "must not be empty"),
        (["all", "--storage-option", "secret=0123"], "a secret cannot be an option"),
    ],
    ids=str,
)
def test_wrong_usage(tmp_path, monkeypatch, arguments, printed):
    monkeypatch.chdir(tmp_path)
    done = run_here("fetch", *arguments)
    assert done.returncode == 2
    assert printed in done.stderr
    assert "0123" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_is_reported_before_anything_is_fetched(get, web, tmp_path, monkeypatch, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".6_dB_fan.zip.part").write_bytes(CONTENTS["6_dB_fan"][:150_000])
    (tmp_path / "raw" / "6_dB_pump.zip").write_bytes(CONTENTS["6_dB_pump"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=249_999))
    assert get("6_dB") == 1
    assert f"{tmp_path / 'raw'}: 250.0 kB are needed, and 250.0 kB are free" in capsys.readouterr().err
    assert web.gets() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=250_000))
    assert get("6_dB") == 0


def test_a_folder_that_cannot_be_made_is_named(get, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert get("6_dB_fan", dest=tmp_path / "file") == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_quiet_prints_nothing(get, capsys):
    assert get("all", "--quiet") == 0
    assert "".join(capsys.readouterr()) == ""


def test_waiting_is_reported(get, web, capsys):
    web.plan = [Behaviour(status=503)]
    assert get("6_dB_fan") == 0
    assert "6_dB_fan.zip: the server answers 503" in capsys.readouterr().err


SCRIPT = textwrap.dedent(
    """
    import sys
    from jobs import fetch
    from mimii.storage import downloads
    from mimii.storage.downloads import Retrying
    from mimii.recordings.zenodo import Archive
    downloads._PIECE_BYTES = 10_000
    fetch._SECONDS_TO_STOP = 0.1
    archives = (Archive(6, "fan", sys.argv[1], int(sys.argv[2])),)
    retrying = Retrying(tries=2, first_wait=0.01, timeouts=(5.0, 600.0))
    sys.exit(fetch.main(["6_dB_fan", "--dest", sys.argv[3], "--base-url", sys.argv[4]], archives, retrying))
    """
)


@pytest.fixture
def process(web, tmp_path):
    """Return what starts the command as a separate process."""
    known = archive("6_dB_fan", CONTENTS["6_dB_fan"])

    def start():
        arguments = [known.md5, str(known.size), str(tmp_path / "raw"), f"{web.url}/mimii"]
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_one_that_is_stopped_is_resumed_where_it_was(process, web, tmp_path, number):
    web.plan = [Behaviour(stall_after=150_000)]
    first = process()
    partial = tmp_path / "raw" / ".6_dB_fan.zip.part"
    wait_for(lambda: partial.exists() and partial.stat().st_size >= 140_000, "some bytes")
    first.send_signal(number)
    printed = first.communicate()[1]
    assert not (tmp_path / "raw" / "6_dB_fan.zip").exists()
    if number == signal.SIGKILL:
        assert first.returncode == -number
    else:
        assert first.returncode == 128 + number
        assert "interrupted; downloaded bytes are kept" in printed
    kept = partial.stat().st_size
    again = process()
    again.communicate()
    assert again.returncode == 0
    assert web.gets()[-1].range == f"bytes={kept}-"
    assert fetched(tmp_path / "raw") == {"6_dB_fan": CONTENTS["6_dB_fan"]}


def test_two_processes_at_once_end_in_the_right_file(process, web, tmp_path):
    web.plan = [Behaviour(stall_after=150_000)]
    one = process()
    wait_for(web.gets, "the first request")
    other = process()
    printed = other.communicate()[1]
    assert (other.returncode, "another process is fetching this file" in printed) == (1, True)
    web.released.set()
    one.communicate()
    assert fetched(tmp_path / "raw") == {"6_dB_fan": CONTENTS["6_dB_fan"]}


def test_to_s3(get, web, moto, use, tmp_path, capsys):
    server = use(moto)
    client(server).create_bucket(Bucket="mimii")
    web.plan = [Behaviour(cut_after=100_000)]
    assert get("6_dB", dest="s3://mimii/raw/") == 0
    for name in ("6_dB_fan", "6_dB_pump", "6_dB_valve"):
        body = client(server).get_object(Bucket="mimii", Key=f"raw/{name}.zip")["Body"].read()
        assert body == CONTENTS[name]
    assert get("6_dB_fan", "--verify-only", dest="s3://mimii/raw") == 0
    assert get("all", "--verify-only", dest="s3://mimii/raw") == 1
    assert get("--list", dest="s3://mimii/raw") == 0
    assert capsys.readouterr().out.count(" there\n") == 3
    assert get("6_dB_fan", dest="s3://none-such/raw") == 1
    assert "no such bucket" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_an_archive_is_featurized_without_unpacking(web, tmp_path):
    paths = write_machines(tmp_path / "made", 6)
    with zipfile.ZipFile(tmp_path / "made.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in paths:
            packed.write(path, path.relative_to(tmp_path / "made" / "6_dB_fan"))
    content = (tmp_path / "made.zip").read_bytes()
    web.files["/6_dB_fan.zip"] = content
    raw = tmp_path / "raw"
    assert fetch.main(["fan", "--dest", str(raw), "--base-url", web.url], [archive("6_dB_fan", content)], QUICK) == 0
    assert featurize_here(raw, "--output", tmp_path / "out") == 0
    table = open_table(tmp_path / "out")
    assert table.snr_db.values.tolist() == [6.0] * 6
    assert table.path.values[0] == f"{raw}/6_dB_fan.zip/fan/id_00/normal/00000000.wav"
    assert (table.status.values == "ok").all()
    assert os.listdir(raw) == ["6_dB_fan.zip"]


def test_a_handler_that_python_does_not_know_stays(monkeypatch):
    """As where a program of C has set it."""
    replaced = []
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    monkeypatch.setattr(signal, "signal", lambda *handler: replaced.append(handler))
    with fetch._stopping_at_interrupts(threading.Event()):
        assert replaced == []
    assert replaced == []
