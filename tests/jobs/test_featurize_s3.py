"""The whole job from S3 to S3: the same bytes as on a disk, with all that may happen on the way."""

import asyncio
import logging
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray

from mimii.storage import Access, ReadOptions, reading
from mimii.storage.s3 import S3Objects
from mimii.table import shard_task
from tests.helpers.commands import (
    assert_same_bytes,
    assert_same_table,
    featurize_here,
    open_table,
    plan_table,
    run_here,
)
from tests.helpers.faults import SHORT_HOP, Run
from tests.helpers.proxy import ACCESS_DENIED, EXPIRED_TOKEN, SLOW_DOWN, CutAnswer, CutRequest, Hold, proxy_to
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import client, filesystem, rclone_server

N_CLIPS = 16
N_SHARDS = 8
BUCKET = "factory"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Write recordings to a disk, as files and as an archive."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    paths = write_machines(root, N_CLIPS)
    with zipfile.ZipFile(root.parent / "6_dB_fan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.relative_to(root / "6_dB_fan"))
    return root


@pytest.fixture
def server(tmp_path, raw):
    """Serve these recordings, and take results."""
    bucket = tmp_path / "objects" / BUCKET
    shutil.copytree(raw, bucket / "raw")
    shutil.copy(raw.parent / "6_dB_fan.zip", bucket)
    with rclone_server(bucket.parent) as server:
        yield server


@pytest.fixture
def proxy(server, use):
    with proxy_to(server) as proxy:
        yield use(proxy)


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    """Build the table of the recordings on S3 once, with nothing in the way."""
    root = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(raw, root / "objects" / BUCKET / "raw")
    with rclone_server(root / "objects") as server:
        done = run_here(
            "featurize", *(f"s3://{BUCKET}/raw", "--output", root / "out"), *SMALL, *SHORT_HOP, **server.environment
        )
    assert done.returncode == 0, done.stderr
    return root / "out"


@pytest.fixture(scope="module")
def local(raw, tmp_path_factory):
    """Build the table of the recordings on a disk, by the options' defaults."""
    output = tmp_path_factory.mktemp("local") / "out"
    assert featurize_here(raw, "--output", output) == 0
    return output


SMALL = ("--shard-mib", 1, "--scheduler", "sync")
SOURCE, OUTPUT = f"s3://{BUCKET}/raw", f"s3://{BUCKET}/out.zarr"


def download(server, folder, prefix="out.zarr"):
    """Copy what is on the server to a folder."""
    files = filesystem(server)
    for path, data in files.cat(files.find(f"{BUCKET}/{prefix}")).items():
        target = folder / Path(path).relative_to(Path(BUCKET, prefix))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def records(server):
    return filesystem(server).find(f"{BUCKET}/out.zarr/features/records")


def lists(server):
    """Say whether the server lists what it has, asked directly."""
    try:
        return bool(records(server))
    except OSError:
        return False


def puts(proxy, since=0):
    return [request.path for request in proxy.finished()[since:] if request.method == "PUT"]


def at_record(proxy, number, act):
    """Have the proxy act on each request that writes a record after that many of them; return these requests."""
    before, others = [], []

    def strike(request):
        if request.method != "PUT" or "/records/" not in request.path:
            return None
        if len(before) < number:
            return before.append(request)
        others.append(request)
        return act()

    proxy.rules.append(strike)
    return others


@pytest.mark.parametrize("source", ["raw", "6_dB_fan.zip"])
def test_features_on_s3_equal_those_on_a_disk(source, local, server, use, tmp_path):
    use(server)
    assert featurize_here(f"s3://{BUCKET}/{source}", "--output", OUTPUT) == 0
    remote = download(server, tmp_path / "copy")
    for name in ("features", "row_clip"):
        assert_chunks_are_the_same(remote / name, local / name)
    ours, theirs = open_table(remote), open_table(local)
    for name in ("machine_type", "machine_id", "number", "snr_db", "label", "split", "status", "feature_mean"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert ours.path.values[0].startswith(f"s3://{BUCKET}/{source}/")


def assert_chunks_are_the_same(one, other):
    ours, theirs = ({path.name: path.read_bytes() for path in folder.glob("c.*")} for folder in (one, other))
    assert ours == theirs
    assert ours


def test_xarray_opens_a_table_on_s3_and_a_second_run_writes_nothing(proxy, undisturbed):
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert len(puts(proxy)) > N_SHARDS
    before = len(proxy.finished())
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert {request.method for request in proxy.finished()[before:]} == {"GET"}
    xarray.testing.assert_identical(
        xarray.open_zarr(OUTPUT, storage_options={"config_kwargs": {}, "skip_instance_cache": True}).load(),
        open_table(undisturbed),
    )


def test_from_disk_to_s3_the_bytes_are_the_same(raw, local, server, use, tmp_path):
    use(server)
    assert featurize_here(raw, "--output", OUTPUT) == 0
    assert_same_bytes(download(server, tmp_path / "copy"), local)


@pytest.mark.slow
def test_a_driver_killed_on_s3_and_started_again_ends_in_the_same_bytes(proxy, server, undisturbed, tmp_path, capsys):
    refused = at_record(proxy, 3, lambda: SLOW_DOWN)
    one = Run(SOURCE, OUTPUT, "--scheduler", "sync", said=tmp_path / "one")
    one.wait_for(lambda: refused, "a shard without its record")
    one.kill()
    proxy.rules.clear()
    kept = {Path(path).stem for path in records(server)}
    assert 0 < len(kept) < N_SHARDS
    before = len(proxy.finished())
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert f"{N_SHARDS - len(kept)} computed, {len(kept)} there already" in capsys.readouterr().out
    assert not [path for path in puts(proxy, before) if Path(path).stem in kept and "records" in path]
    assert_same_bytes(download(server, tmp_path / "copy"), undisturbed)


@pytest.mark.slow
def test_a_server_killed_and_started_again_is_waited_for(proxy, server, undisturbed, tmp_path):
    unanswered = at_record(proxy, 2, lambda: server.kill() if len(unanswered) == 1 else None)
    job = Run(SOURCE, OUTPUT, "--scheduler", "sync", said=tmp_path / "said")
    job.wait_for(lambda: len(unanswered) > 2, "requests without an answer")
    proxy.rules.clear()
    server.start()
    status = job.wait()
    if status and not lists(server):  # rclone itself may come back unable to list
        server.kill()
        server.start()
        job = Run(SOURCE, OUTPUT, said=tmp_path / "again")
        status = job.wait()
    assert status == 0, job.text() + server.process.said()
    assert_same_bytes(download(server, tmp_path / "copy"), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults", [[(SLOW_DOWN, 0.2)], [(CutRequest(), 0.15), (CutAnswer(5000), 0.15)]], ids=["slow down", "cuts"]
)
def test_a_server_that_slows_down_and_connections_that_are_cut_change_nothing(
    proxy, server, undisturbed, tmp_path, faults
):
    rules = [proxy.spoil(fault, probability=probability) for fault, probability in faults]
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert all(rule.used > 5 for rule in rules)
    proxy.rules.clear()
    assert_same_bytes(download(server, tmp_path / "copy"), undisturbed)


def test_credentials_that_expire_stop_the_run_and_the_next_one_resumes(proxy, server, undisturbed, tmp_path, capsys):
    written, refused = [], []

    def expire(request):
        written.extend([request.path] if request.method == "PUT" and "records" in request.path else [])
        of_lease = "lease-" in request.path or "list-type" in request.path  # renewed every few seconds
        is_expired = len(written) > 3 and not of_lease
        refused.extend([request.path] if is_expired else [])
        return EXPIRED_TOKEN if is_expired else None

    proxy.rules.append(expire)
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 1
    assert len(refused) == 1, "there is no use in trying again"
    said = capsys.readouterr().err
    assert "credentials are not accepted (ExpiredToken" in said
    assert "run the same command again" in said
    proxy.rules.clear()
    assert len(records(server)) == 3
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert f"{N_SHARDS - 3} computed, 3 there already" in capsys.readouterr().out
    assert_same_bytes(download(server, tmp_path / "copy"), undisturbed)


def test_without_permission_to_write_nothing_is_begun(proxy, capsys):
    proxy.spoil(ACCESS_DENIED, method="PUT")
    assert featurize_here(SOURCE, "--output", OUTPUT) == 1
    assert f"{OUTPUT}: objects cannot be written there" in capsys.readouterr().err
    assert len([request for request in proxy.finished() if request.path.endswith(".wav")]) == 3  # one a folder


def test_a_missing_bucket_for_the_results_is_an_error_before_any_recording_is_read(proxy, capsys):
    assert featurize_here(SOURCE, "--output", "s3://elsewhere/out.zarr") == 1
    assert "s3://elsewhere/out.zarr" in (said := capsys.readouterr().err)
    assert "there is no such bucket" in said
    assert not [request for request in proxy.finished() if "raw" in request.path]


def test_a_missing_bucket_or_prefix_of_recordings_is_named(server, use, capsys, tmp_path):
    use(server)
    assert featurize_here("s3://elsewhere/raw", "--output", tmp_path / "out") == 1
    assert "s3://elsewhere/raw: there is no such bucket" in capsys.readouterr().err
    for source in ("gone", "gone.zip", "raw/gone.wav"):
        assert featurize_here(f"s3://{BUCKET}/{source}", "--output", tmp_path / "out") == 2
        assert f"s3://{BUCKET}/{source}: no such object or prefix" in capsys.readouterr().err


def test_a_recording_without_permission_is_a_bad_clip_until_there_is_one(proxy, server, undisturbed, tmp_path, capsys):
    rule = proxy.spoil(ACCESS_DENIED, method="GET", path=r"00000007\.wav")
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 3
    assert "1: cannot be read" in capsys.readouterr().out
    proxy.rules.remove(rule)
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 0
    assert f"1 computed, {N_SHARDS - 1} there already" in capsys.readouterr().out
    assert_same_bytes(download(server, tmp_path / "copy"), undisturbed)


def test_a_recording_that_is_deleted_after_it_was_listed_is_a_bad_clip(proxy, server, capsys):
    removed = []

    def remove(request):
        if request.method == "PUT" and "check" not in request.path and not removed:
            removed.append("raw/6_dB_fan/fan/id_00/normal/00000002.wav")
            client(server).delete_object(Bucket=BUCKET, Key=removed[0])

    proxy.rules.append(remove)
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 3
    assert "1: cannot be read: no such object" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "n_headers", "most_requests"), [("raw", 3, 4), ("6_dB_fan.zip", 3, 5)], ids=["folder", "archive"]
)
def test_a_plan_takes_few_requests(proxy, capsys, source, n_headers, most_requests):
    assert featurize_here(f"s3://{BUCKET}/{source}", "--output", OUTPUT, "--dry-run") == 0
    said = capsys.readouterr().out
    for_source = [request for request in proxy.finished() if "out.zarr" not in request.path]
    assert len(for_source) <= most_requests
    assert f"{n_headers} of {N_CLIPS} read, {len(for_source)} requests to S3" in said
    assert all(int(request.answer_length) <= 1 << 20 for request in for_source)
    assert {request.method for request in proxy.finished()} <= {"GET", "HEAD"}


def test_probe_all_reads_every_header(proxy, capsys):
    assert featurize_here(SOURCE, "--output", OUTPUT, "--dry-run", "--probe", "all") == 0
    assert f"{N_CLIPS} of {N_CLIPS} read, {N_CLIPS + 1} requests to S3" in capsys.readouterr().out
    assert len([request for request in proxy.finished() if request.path.endswith(".wav")]) == N_CLIPS


def test_a_clip_unlike_the_others_of_its_size_is_bad_and_its_neighbours_are_right(server, use, tmp_path, capsys):
    use(server)
    odd = write_clip(tmp_path / "odd.wav", 99, 8_000, n_channels=2)  # as many bytes as one channel of 16,000
    client(server).put_object(Bucket=BUCKET, Key="raw/6_dB_fan/fan/id_00/normal/00000002.wav", Body=odd.read_bytes())
    assert featurize_here(SOURCE, "--output", OUTPUT) == 3
    assert "from others of the same size, for which --probe all helps" in capsys.readouterr().out
    assert featurize_here(SOURCE, "--output", tmp_path / "all", "--probe", "all") == 0
    table, right = open_table(download(server, tmp_path / "copy")), open_table(tmp_path / "all")
    for clip in range(N_CLIPS):
        ours, theirs = (each.features.values[each.row_clip.values == clip] for each in (table, right))
        if "00000002" in str(table.path.values[clip]) and "id_00/normal" in str(table.path.values[clip]):
            assert np.isnan(ours).all()
        else:
            np.testing.assert_array_equal(ours, theirs)


def test_recordings_are_fetched_a_window_at_a_time(proxy):
    def asked():
        """Return the requests of whole recordings: three of headers come before them."""
        return [request for request in list(proxy.requests) if request.path.endswith(".wav")][3:]

    five_asked = asyncio.Event()

    def hold_back(request):
        if len(asked()) == 5:
            five_asked.set()
        return Hold(five_asked) if request in asked() else None

    proxy.rules.append(hold_back)
    proxy.latency = 0.05
    assert featurize_here(SOURCE, "--output", OUTPUT, "--fetch-window", 5, "--shard-mib", 32) == 0
    proxy.finished()
    fetched = asked()
    assert len(fetched) == N_CLIPS
    moments = sorted([(r.began, 1) for r in fetched] + [(r.ended, -1) for r in fetched])
    assert max(np.cumsum([step for _, step in moments])) == 5


def test_a_large_recording_is_read_bit_by_bit(proxy, server, local, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_WHOLE", 1000)
    monkeypatch.setattr(reading, "_LARGE_BLOCK", 10_000)
    assert featurize_here(SOURCE, "--output", OUTPUT) == 0
    assert_chunks_are_the_same(download(server, tmp_path / "copy") / "features", local / "features")
    sizes = [request.answer_length for request in proxy.finished() if request.path.endswith(".wav")]
    assert max(sizes) == 10_000


def test_a_list_may_name_recordings_on_s3(server, use, tmp_path):
    use(server)
    listed = tmp_path / "list.csv"
    name = f"{SOURCE}/6_dB_fan/fan/id_00/normal/0000000"
    listed.write_text(f"path,label\n{name}0.wav,abnormal\n{name}2.wav,normal\n{name}9.wav,normal\n")
    assert featurize_here("--list", listed, "--output", tmp_path / "out") == 3
    table = open_table(tmp_path / "out")
    assert table.label.values.tolist() == [1, 0, 0]
    assert table.status.values.tolist() == ["ok", "ok", "cannot be read: no such object"]


def test_overwrite_clears_a_store_on_s3(server, use, undisturbed, tmp_path, capsys):
    use(server)
    assert featurize_here(SOURCE, "--output", OUTPUT, "--preset", "autoencoder") == 0
    assert featurize_here(SOURCE, "--output", OUTPUT, *SHORT_HOP) == 2
    assert "another table" in capsys.readouterr().err
    client(server).put_object(Bucket=BUCKET, Key="out.zarr/notes.txt", Body=b"mine")
    assert featurize_here(SOURCE, "--output", OUTPUT, "--overwrite", *SHORT_HOP) == 0
    copy = download(server, tmp_path / "copy")
    assert (copy / "notes.txt").read_bytes() == b"mine"
    (copy / "notes.txt").unlink()
    assert_same_table(copy, undisturbed)


def test_something_else_at_the_output_is_left_alone(server, use, capsys):
    use(server)
    client(server).put_object(Bucket=BUCKET, Key="out.zarr/notes.txt", Body=b"mine")
    assert featurize_here(SOURCE, "--output", OUTPUT) == 2
    assert "left alone" in capsys.readouterr().err
    assert filesystem(server).find(f"{BUCKET}/out.zarr") == [f"{BUCKET}/out.zarr/notes.txt"]


def test_credentials_are_in_nothing_that_is_written_or_said(server, use, tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with proxy_to(server, keep_bytes=True) as proxy:
        use(proxy)
        proxy.spoil(SLOW_DOWN, probability=0.05)
        assert featurize_here(SOURCE, "--output", OUTPUT) == 0
        sent = proxy.sent()
    assert server.secret_key.encode() not in sent
    stored = b"".join(path.read_bytes() for path in download(server, tmp_path / "copy").rglob("*") if path.is_file())
    assert len(stored) > 10_000
    said = "".join(capsys.readouterr())
    task = pickle.dumps(
        shard_task(plan_table(tmp_path / "objects" / BUCKET / "raw"), 0, S3Objects(OUTPUT), ReadOptions(Access()))
    )
    for secret in (server.access_key, server.secret_key):
        assert secret.encode() not in stored
        assert secret not in said
        assert secret.encode() not in task
    assert server.secret_key not in caplog.text


def test_secrets_and_odd_places_on_the_command_line_are_refused(capsys):
    for arguments in (
        ("--storage-option", "secret=0123"),
        ("s3://someone:0123@bucket/raw",),
        ("--output", "s3://a:0123@b/c"),
    ):
        assert featurize_here(*arguments) == 2
        assert "0123" not in capsys.readouterr().err
    for place in ("gs://bucket/raw", "s3://", "http://example.org/raw"):
        assert featurize_here(place) == 2
        assert "s3://bucket/prefix" in capsys.readouterr().err


def test_options_are_passed_to_s3fs(server, use, monkeypatch):
    use(server)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    option = ("--storage-option", f"endpoint_url={server.endpoint}")
    assert featurize_here(SOURCE, "--output", OUTPUT, *option) == 0
    with proxy_to(server) as proxy:
        other = ("--output-option", f"endpoint_url={proxy.endpoint}")
        assert featurize_here(SOURCE, "--output", f"{OUTPUT}2", *option, *other) == 0
        assert puts(proxy)
        assert not [request for request in proxy.finished() if "raw" in request.path]
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
