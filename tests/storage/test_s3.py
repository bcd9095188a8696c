"""Objects on S3 are written whole; what is transient is retried, what is not is an error that says what to do."""

import asyncio
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mimii.storage import s3
from mimii.storage.access import Access, OptionError, nest_options, parse_options
from mimii.storage.s3 import S3Objects, StorageError, describe, find, read, upload
from tests.helpers.proxy import (
    ACCESS_DENIED,
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    INVALID_ACCESS_KEY,
    SLOW_DOWN,
    Answer,
    CutAnswer,
    CutRequest,
    Stall,
    proxy_to,
)
from tests.helpers.servers import client, rclone_server

BODY = bytes(range(256)) * 1000
WAITS = s3._FIRST_WAIT, s3._LONGEST_WAIT
"""As users have them; tests wait less."""


@pytest.fixture
def bucket(server, use, request):
    use(server)
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    client(server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def faulty(moto, use, request):
    """Return a bucket with one object, behind a proxy."""
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    client(moto).create_bucket(Bucket=name)
    client(moto).put_object(Bucket=name, Key="there", Body=BODY)
    with proxy_to(moto) as proxy:
        proxy.bucket = name
        use(proxy)
        yield proxy


def quick(**how):
    return Access(**{"timeout": 300.0} | how)


def test_objects_are_put_got_listed_and_deleted(bucket):
    objects = S3Objects(f"s3://{bucket}/some/store.zarr", quick())
    contents = {"zarr.json": b"{}", "features/c.0.0": BODY, "features/records/0.json": b"r", "row_clip/c.0": b"x y"}
    objects.put("zarr.json", b"older and longer")
    objects.put_all(contents)
    assert objects.get("features/c.0.0") == BODY
    assert objects.get_all([*contents, "missing"]) == contents
    assert objects.sizes() == {key: len(data) for key, data in contents.items()}
    assert objects.sizes("features") == {"features/c.0.0": len(BODY), "features/records/0.json": 1}
    assert objects.sizes("feat") == {}
    assert objects.names() == ["features", "row_clip", "zarr.json"]
    objects.delete("zarr.json")
    objects.delete("zarr.json")
    objects.delete_below("features/records")
    assert objects.names() == ["features", "row_clip"]
    assert objects.get("zarr.json") is None
    objects.delete_below("")
    assert objects.names() == []


def test_a_root_may_be_a_whole_bucket(bucket):
    objects = S3Objects(f"s3://{bucket}", quick())
    objects.put("a/b", b"1")
    assert (objects.sizes(), objects.names(), objects.get("a/b")) == ({"a/b": 1}, ["a"], b"1")


def test_other_objects_beside_a_root_are_left_alone(bucket):
    beside = S3Objects(f"s3://{bucket}/store.zarr.old", quick())
    beside.put("a", b"kept")
    objects = S3Objects(f"s3://{bucket}/store.zarr", quick())
    objects.put("a", b"1")
    assert objects.sizes() == {"a": 1}
    objects.delete_below("")
    assert beside.get("a") == b"kept"


def test_names_that_look_like_something_else_are_kept(bucket):
    objects = S3Objects(f"s3://{bucket}/odd", quick())
    names = ["a b.wav", "a+b.wav", "a%20b.wav", "a?b=1", "a#b", "caf\u00e9", "x=y&z"]
    for index, name in enumerate(names):
        objects.put(name, bytes([index]))
    assert sorted(objects.sizes()) == sorted(names)
    for index, name in enumerate(names):
        assert objects.get(name) == bytes([index])
        assert read(f"s3://{bucket}/odd/{name}", 0, 1, quick()) == bytes([index])


def test_more_objects_than_fit_on_a_page_are_listed(tmp_path, use):
    (tmp_path / "pages" / "p").mkdir(parents=True)
    for index in range(1001):
        (tmp_path / "pages" / "p" / f"{index:04d}").write_bytes(b"x")
    with rclone_server(tmp_path) as server:
        use(server)
        objects = S3Objects("s3://pages/p", quick())
        before = s3.count_requests()
        assert list(objects.sizes()) == [f"{index:04d}" for index in range(1001)]
        assert s3.count_requests() - before == 2
        assert len(objects.names()) == 1001


def test_a_block_is_read_with_one_request(faulty):
    found = describe(f"s3://{faulty.bucket}/there", quick())
    assert (found.size, found.url) == (len(BODY), f"s3://{faulty.bucket}/there")
    [listed] = find(f"s3://{faulty.bucket}", quick())
    assert (listed.size, listed.version) == (found.size, found.version)
    before = len(faulty.requests)
    assert read(found.url, 1000, 1256, quick()) == BODY[1000:1256]
    assert read(found.url, 5, 5, quick()) == b""
    assert len(faulty.requests) == before + 1
    assert faulty.requests[-1].headers["range"] == "bytes=1000-1255"
    assert describe(f"s3://{faulty.bucket}/missing", quick()) is None
    with pytest.raises(FileNotFoundError, match="no such object"):
        read(f"s3://{faulty.bucket}/missing", 0, 5, quick())


@pytest.mark.parametrize(
    "fault", [SLOW_DOWN, INTERNAL_ERROR, CutRequest(), CutAnswer(), CutAnswer(1000), Stall(1000)], ids=str
)
def test_transient_faults_are_retried(faulty, fault):
    access = quick(options=(("config_kwargs.read_timeout", "0.4"),))
    rule = faulty.spoil(fault, method="GET", times=2)
    before = s3.count_requests()
    assert read(f"s3://{faulty.bucket}/there", 0, len(BODY), access) == BODY
    assert rule.used == 2
    assert s3.count_requests() - before >= 2  # a cut connection that had been kept open is tried again by aiohttp


@pytest.mark.parametrize("fault", [SLOW_DOWN, CutRequest(), CutRequest(1000), CutAnswer()], ids=str)
def test_an_object_is_put_whole_despite_faults(faulty, moto, fault):
    rule = faulty.spoil(fault, method="PUT", times=2)
    S3Objects(f"s3://{faulty.bucket}", quick()).put("new", BODY)
    assert rule.used == 2
    assert client(moto).get_object(Bucket=faulty.bucket, Key="new")["Body"].read() == BODY


@pytest.mark.parametrize(
    ("fault", "reason"), [(EXPIRED_TOKEN, "ExpiredToken"), (INVALID_ACCESS_KEY, "InvalidAccessKeyId")], ids=str
)
def test_credentials_that_are_not_accepted_are_an_error_at_once(faulty, fault, reason):
    faulty.spoil(fault)
    before = len(faulty.requests)
    with pytest.raises(StorageError, match=f"credentials are not accepted.*{reason}"):
        read(f"s3://{faulty.bucket}/there", 0, 5, quick())
    assert len(faulty.requests) == before + 1


def test_a_wrong_secret_is_an_error_at_once(rclone, use, monkeypatch):
    use(rclone)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the one")
    with pytest.raises(StorageError, match=r"credentials are not accepted.*SignatureDoesNotMatch"):
        S3Objects("s3://anything/below", quick()).names()


def test_missing_credentials_are_an_error_at_once(rclone, use, monkeypatch):
    use(rclone)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=r"no credentials.*anon=true"):
        S3Objects("s3://anything", quick()).get("a")


def test_a_missing_profile_is_an_error_at_once(rclone, use):
    use(rclone)
    with pytest.raises(StorageError, match="no-such-profile"):
        S3Objects("s3://anything", quick(options=(("profile", "no-such-profile"),))).get("a")


def test_a_missing_bucket_is_an_error_at_once(server, use):
    use(server)
    for act in (lambda o: o.names(), lambda o: o.get("a"), lambda o: o.put("a", b"1"), lambda o: o.check()):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/x.*no such bucket"):
            act(S3Objects("s3://no-such-bucket/x", quick()))


def test_an_object_that_may_not_be_read_is_a_permission_error(faulty):
    faulty.spoil(ACCESS_DENIED, path="there")
    with pytest.raises(PermissionError, match=r"\[Errno 13\] .*there"):
        read(f"s3://{faulty.bucket}/there", 0, 5, quick())
    with pytest.raises(PermissionError, match="there"):
        describe(f"s3://{faulty.bucket}/there", quick())


@pytest.mark.parametrize(("method", "what"), [("PUT", "written"), ("GET", "read"), ("DELETE", "deleted")])
def test_the_check_says_what_is_not_permitted(faulty, method, what):
    objects = S3Objects(f"s3://{faulty.bucket}/out", quick())
    objects.check()
    faulty.spoil(ACCESS_DENIED, method=method)
    with pytest.raises(StorageError, match=rf"s3://{faulty.bucket}/out: objects cannot be {what}"):
        objects.check()


def test_a_listing_that_is_not_permitted_says_so(faulty):
    faulty.spoil(ACCESS_DENIED, path="list-type")
    with pytest.raises(StorageError, match="cannot be listed"):
        list(find(f"s3://{faulty.bucket}/x", quick()))


def test_a_server_that_is_not_there_is_given_up_after_the_timeout(moto, use, monkeypatch):
    use(moto)
    waits, options = [], (("endpoint_url", "http://127.0.0.1:9"),)
    for name, value in zip(("_FIRST_WAIT", "_LONGEST_WAIT"), WAITS, strict=True):
        monkeypatch.setattr(s3, name, value)
    monkeypatch.setattr(s3, "time", SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append))
    with pytest.raises(StorageError, match=r"no useful answer for 9 s: .*127\.0\.0\.1:9"):
        S3Objects("s3://bucket", Access(options, 9.0)).get("a")
    assert 7 <= sum(waits) <= 9
    assert all(
        0.5 * longest <= wait <= longest for wait, longest in zip(waits, (0.2, 0.4, 0.8, 1.6, 2.0), strict=False)
    )


def test_an_option_that_s3fs_does_not_know_is_named(moto, use):
    use(moto)
    with pytest.raises(StorageError, match="nonsense"):
        S3Objects("s3://bucket", quick(options=(("nonsense", "1"),))).get("a")


def test_errors_can_be_sent_to_other_processes(faulty):
    faulty.spoil(EXPIRED_TOKEN)
    with pytest.raises(StorageError) as raised:
        read(f"s3://{faulty.bucket}/there", 0, 5, quick())
    sent = pickle.loads(pickle.dumps(raised.value))
    assert (type(sent), str(sent)) == (StorageError, str(raised.value))


@pytest.fixture
def pieces(monkeypatch):
    """Make enough for three parts."""
    monkeypatch.setattr(s3, "_PART_BYTES", 5 << 20)
    return [os.urandom(1 << 20) for _ in range(11)]


def test_an_upload_appears_when_all_is_written_with_its_metadata(bucket, server, pieces):
    url = f"s3://{bucket}/6_dB_fan.zip"
    with upload(url, quick(), {"md5": "0123"}) as file:
        for piece in pieces:
            file.write(piece)
        assert describe(url, quick()) is None
    assert describe(url, quick()).metadata["md5"] == "0123"
    assert client(server).get_object(Bucket=bucket, Key="6_dB_fan.zip")["Body"].read() == b"".join(pieces)


def test_an_upload_of_nothing_is_an_empty_object(bucket):
    with upload(f"s3://{bucket}/empty", quick(), {}):
        pass
    assert describe(f"s3://{bucket}/empty", quick()).size == 0


def test_an_upload_that_is_aborted_leaves_nothing(faulty, moto, pieces):
    def give_up():
        with upload(f"s3://{faulty.bucket}/new", quick(), {}) as file:
            file.write(b"".join(pieces))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert describe(f"s3://{faulty.bucket}/new", quick()) is None
    assert "Uploads" not in client(moto).list_multipart_uploads(Bucket=faulty.bucket)


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [("PUT", "partNumber=2", SLOW_DOWN), ("PUT", "partNumber=1", CutRequest(1000)), ("POST", r"uploadId", CutAnswer())],
    ids=["slow", "cut", "answer to the last request lost"],
)
def test_an_upload_survives_transient_faults(faulty, moto, pieces, method, path, fault):
    rule = faulty.spoil(fault, method=method, path=path, times=1)
    with upload(f"s3://{faulty.bucket}/new", quick(), {}) as file:
        for piece in pieces:
            file.write(piece)
    assert rule.used == 1
    assert client(moto).get_object(Bucket=faulty.bucket, Key="new")["Body"].read() == b"".join(pieces)


@pytest.mark.parametrize("is_completed", [False, True])
def test_an_upload_that_cannot_be_completed_is_aborted(faulty, moto, pieces, caplog, is_completed):
    if is_completed:
        faulty.spoil(CutAnswer(), method="POST", path="uploadId", times=1)
    faulty.rules.append(lambda one: ACCESS_DENIED if one.method == "POST" and "uploadId" in one.path else None)

    def upload_all():
        with upload(f"s3://{faulty.bucket}/new", quick(), {}) as file:
            file.write(b"".join(pieces))

    with pytest.raises(PermissionError):
        upload_all()
    assert "Uploads" not in client(moto).list_multipart_uploads(Bucket=faulty.bucket)
    assert (describe(f"s3://{faulty.bucket}/new", quick()) is not None) == is_completed
    assert [request.method for request in faulty.finished()].count("DELETE") == 1
    assert not caplog.records


def test_an_upload_that_cannot_be_aborted_is_named(faulty, moto, caplog):
    faulty.spoil(ACCESS_DENIED, method="DELETE")

    def give_up():
        with upload(f"s3://{faulty.bucket}/new", quick(), {}):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    [left] = client(moto).list_multipart_uploads(Bucket=faulty.bucket)["Uploads"]
    assert f"s3://{faulty.bucket}/new: an unfinished upload stays there" in caplog.text
    assert left["UploadId"] in caplog.text


def test_options_are_nested_and_have_types():
    pairs = ["anon=true", "client_kwargs.region_name=eu-west-1", "config_kwargs.read_timeout=5", "profile=a=b"]
    assert nest_options(parse_options(pairs)) == {
        "anon": True,
        "client_kwargs": {"region_name": "eu-west-1"},
        "config_kwargs": {"read_timeout": 5},
        "profile": "a=b",
    }


@pytest.mark.parametrize(
    "pair",
    [
        "key=AKIA0123",
        "secret=0123456789",
        "token=0123456789",
        "client_kwargs.aws_secret_access_key=0123456789",
        'client_kwargs={"aws_secret_access_key": "0123456789"}',
        "SECRET=0123456789",
        "endpoint_url=http://someone:0123456789@10.0.0.1",
    ],
)
def test_secrets_on_the_command_line_are_refused_and_not_repeated(pair):
    with pytest.raises(OptionError, match="a secret cannot be an option") as raised:
        parse_options([pair])
    assert "0123" not in str(raised.value)


def test_access_takes_options_as_a_mapping():
    options = {"endpoint_url": "http://10.0.0.5:9000", "anon": True, "client_kwargs": {"region_name": "eu-west-1"}}
    access = Access(options)
    assert nest_options(access.pairs) == options
    assert access == Access(parse_options([f"{key}={value}" for key, value in access.pairs]))
    assert hash(access) == hash(Access(options))


def test_access_refuses_a_secret_in_a_mapping_and_does_not_repeat_it():
    with pytest.raises(OptionError, match="aws_secret_access_key: a secret cannot be an option") as raised:
        Access({"client_kwargs": {"aws_secret_access_key": "0123456789"}})
    assert "0123" not in str(raised.value)


@pytest.mark.parametrize(
    "pairs", [["anon"], ["=1"], ["a..b=1"], ["", "a=1"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]], ids=str
)
def test_options_that_make_no_sense_are_refused(pairs):
    with pytest.raises(OptionError):
        parse_options(pairs)


@pytest.mark.slow
def test_idle_connections_that_a_restart_closed_are_replaced(tmp_path, use):
    (tmp_path / "objects" / "factory").mkdir(parents=True)
    with rclone_server(tmp_path / "objects") as server, proxy_to(server, latency=0.05) as proxy:
        use(proxy)
        objects = S3Objects("s3://factory/store", Access())
        objects.put_all({str(index): b"x" for index in range(100)})
        assert len({request.connection for request in proxy.finished()}) > 20
        server.kill()
        proxy.rules.append(lambda request: CutRequest() if request.connection <= 20 else None)
        server.start()
        assert len(objects.sizes()) == 100


def test_a_file_system_that_is_collected_within_an_event_loop_is_closed_without_using_that_loop():
    closed = []
    connector = SimpleNamespace(_close=lambda: closed.append(True))
    session = SimpleNamespace(
        _client=SimpleNamespace(_endpoint=SimpleNamespace(http_session=SimpleNamespace(_connector=connector)))
    )

    async def collect():
        s3._close_session(asyncio.get_running_loop(), session)
        return len(asyncio.all_tasks())

    assert asyncio.run(collect()) == 1
    assert closed == [True]


def test_many_threads_at_once_have_one_file_system():
    n, options = 16, parse_options(["endpoint_url=http://127.0.0.1:9"])
    start = threading.Barrier(n)

    def open_it(_):
        start.wait()
        return s3.filesystem(options)

    with ThreadPoolExecutor(n) as pool:
        assert len(set(map(id, pool.map(open_it, range(n))))) == 1


def test_an_error_without_words_is_said_by_its_code_and_what_was_asked_for(faulty):
    faulty.spoil(Answer(403, "AccessDenied", has_words=False), path="list-type")
    with pytest.raises(StorageError, match=r"cannot be listed: AccessDenied, in answer to ListObjectsV2"):
        list(find(f"s3://{faulty.bucket}", quick()))


@pytest.mark.parametrize("key", ["a?versionId=1.wav", "plain?x=1&versionId=2", "fan/b?versionId="])
def test_a_key_with_a_question_mark_is_that_key(bucket, key):
    objects = S3Objects(f"s3://{bucket}", quick())
    objects.put_all({key: b"this one", key.partition("?")[0]: b"another"})
    assert objects.get(key) == b"this one"
    assert describe(f"s3://{bucket}/{key}", quick()).size == len(b"this one")
    assert read(f"s3://{bucket}/{key}", 5, 8, quick()) == b"one"
