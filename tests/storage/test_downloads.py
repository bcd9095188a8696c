"""A file is downloaded over bad connections: complete, with the right bytes, in place only then."""

import fcntl
import hashlib
import os
import random
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from mimii.storage import downloads, s3
from mimii.storage.access import Access
from mimii.storage.downloads import DownloadError, PublishedFile, Retrying, StoppedError, download, transfer
from tests.helpers.http_server import Behaviour, serve
from tests.helpers.servers import client

CONTENT = random.Random(7).randbytes(300_000)
OTHER = random.Random(8).randbytes(300_000)
RETRYING = Retrying(tries=4, first_wait=1.0, longest_wait=8.0, timeouts=(300.0, 300.0))


class Watcher:
    """Records its calls, and never waits."""

    def __init__(self, stop_at=None):
        self.waits, self.reasons, self.seen, self.stop_at = [], [], [], stop_at

    def progress(self, done, total):
        self.seen.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise StoppedError

    def wait(self, seconds, reason):
        self.waits.append(seconds)
        self.reasons.append(reason)


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(downloads, "_PIECE_BYTES", 10_000)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({"/fan.zip": CONTENT}) as web:
        yield web


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "fan.zip"


def wanted(web, *, content=CONTENT, size=True):
    md5 = hashlib.md5(content).hexdigest()  # noqa: S324  as published
    return PublishedFile(f"{web.url}/fan.zip", md5, len(content) if size else None)


def partial(target):
    return target.with_name(".fan.zip.part")


def fetch(web, target, watcher=None, **how):
    return download(wanted(web, **how), target, RETRYING, watcher or Watcher())


def assert_fetched(target):
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["fan.zip"]


@pytest.mark.parametrize("size", [True, False])
def test_a_file_is_fetched(web, target, size):
    watcher = Watcher()
    assert fetch(web, target, watcher, size=size)
    assert_fetched(target)
    assert watcher.seen[-1][0] == len(CONTENT)
    assert watcher.waits == []
    [asked] = web.gets()
    assert (asked.range, asked.headers["Accept-Encoding"]) == ("", "identity")
    assert asked.headers["User-Agent"].startswith("sound-features/")


def test_a_file_that_is_there_and_right_is_not_fetched_again(web, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert not fetch(web, target)
    assert web.asked == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(OTHER, "has the MD5"), (CONTENT[:-1], "has 299999 bytes, 300000")],
    ids=["other bytes", "too short"],
)
def test_a_file_that_is_there_and_wrong_is_left_alone(web, target, content, reason):
    target.parent.mkdir()
    target.write_bytes(content)
    with pytest.raises(DownloadError, match=rf"fan\.zip: {reason}.*left alone"):
        fetch(web, target)
    assert target.read_bytes() == content
    assert web.asked == []


@pytest.mark.parametrize("size", [True, False])
def test_bytes_of_an_earlier_download_are_not_fetched_again(web, target, size):
    target.parent.mkdir()
    partial(target).write_bytes(CONTENT[:123_456])
    assert fetch(web, target, size=size)
    assert_fetched(target)
    assert [asked.range for asked in web.gets()] == ["bytes=123456-"]


def test_connections_that_are_cut_are_resumed_at_their_position(web, target):
    web.plan = [Behaviour(cut_after=100_000), Behaviour(cut_after=1), Behaviour(cut_after=50_000)]
    watcher = Watcher()
    assert fetch(web, target, watcher)
    assert_fetched(target)
    starts = [int(asked.range.removeprefix("bytes=").rstrip("-") or 0) for asked in web.gets()]
    assert len(starts) == 4
    assert starts[0] == 0 < starts[1] <= 100_000
    assert starts == sorted(starts)
    assert web.gets()[1].headers["If-Range"] == '"one"'


def test_a_connection_that_stalls_is_closed_and_the_download_resumed(web, target):
    web.plan = [Behaviour(stall_after=100_000)]
    assert download(wanted(web), target, replace(RETRYING, timeouts=(300.0, 0.5)), Watcher())
    assert_fetched(target)
    assert web.gets()[1].range


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_server_that_is_busy_is_waited_for_longer_and_longer(web, target, status):
    web.plan = [Behaviour(status=status)] * 3
    watcher = Watcher()
    assert fetch(web, target, watcher)
    assert_fetched(target)
    assert all(least <= wait <= 2 * least for wait, least in zip(watcher.waits, (0.5, 1, 2), strict=True))
    assert str(status) in watcher.reasons[0]


def test_a_server_says_when_to_retry(web, target):
    web.plan = [
        Behaviour(status=503, headers={"Retry-After": "17"}),
        Behaviour(status=429, headers={"Retry-After": formatdate(time.time() + 800, usegmt=True)}),
        Behaviour(status=503, headers={"Retry-After": "soon"}),
    ]
    watcher = Watcher()
    assert fetch(web, target, watcher)
    assert watcher.waits[0] == 17
    assert 400 < watcher.waits[1] <= 800
    assert watcher.waits[2] <= 4


def test_a_server_that_asks_to_wait_a_day_is_an_error(web, target):
    web.plan = [Behaviour(status=503, headers={"Retry-After": "86400"})]
    with pytest.raises(DownloadError, match="asks to retry in 86400 s"):
        fetch(web, target)


def test_after_some_tries_without_progress_it_fails_and_the_bytes_are_kept(web, target):
    web.plan = [Behaviour(cut_after=100_000)] + [Behaviour(status=503)] * 10
    watcher = Watcher()
    with pytest.raises(DownloadError, match=r"given up after 4 tries in a row.*503"):
        fetch(web, target, watcher)
    assert not target.exists()
    kept = partial(target).read_bytes()
    assert kept
    assert CONTENT.startswith(kept)
    web.plan = []
    assert fetch(web, target)
    assert_fetched(target)


def test_tries_are_counted_anew_after_progress(web, target):
    web.plan = [Behaviour(cut_after=20_000) for _ in range(10)]
    assert fetch(web, target)
    assert_fetched(target)
    assert len(web.gets()) == 11


@pytest.mark.parametrize("status", [404, 403, 410, 401])
def test_an_error_that_does_not_pass_is_raised_at_once(web, target, status):
    web.plan = [Behaviour(status=status)]
    with pytest.raises(DownloadError, match=rf"{web.url}/fan\.zip: the server answers {status}"):
        fetch(web, target)
    assert len(web.gets()) == 1


def test_a_server_without_ranges_sends_the_first_bytes_again(web, target):
    web.behave = lambda _: Behaviour(ranges=False, cut_after=200_000 if len(web.asked) == 1 else None)
    assert fetch(web, target)
    assert_fetched(target)
    assert len(web.gets()) == 2


def test_a_part_that_is_not_the_one_asked_for_is_refused(web, target):
    web.plan = [Behaviour(cut_after=100_000), Behaviour(shift=1000)]
    with pytest.raises(DownloadError, match=r"asked for byte \d+, the server sends from byte \d+"):
        fetch(web, target)


def test_a_part_that_begins_earlier_is_cut_to_fit(web, target):
    web.plan = [Behaviour(cut_after=100_000), Behaviour(shift=-5000)]
    assert fetch(web, target)
    assert_fetched(target)


def test_another_size_than_was_published_is_an_error_at_once(web, target):
    web.plan = [Behaviour(body=CONTENT + b"more")]
    with pytest.raises(DownloadError, match="300004 bytes are published there, 300000 were expected"):
        fetch(web, target)
    assert os.listdir(target.parent) == []


def test_an_answer_shorter_than_its_length_is_resumed(web, target):
    web.plan = [Behaviour(body=CONTENT[:250_000], length=300_000)]
    assert fetch(web, target)
    assert_fetched(target)


def test_an_answer_without_a_length_that_does_not_end_is_cut_off(web, target):
    endless = Behaviour(headers={"Content-Length": ""}, body=CONTENT + b"x" * 100_000, etag="")
    web.behave = lambda _: endless
    with pytest.raises(DownloadError, match="more than the 300000 bytes"):
        fetch(web, target)


def test_wrong_bytes_are_fetched_anew_once(web, target):
    web.plan = [Behaviour(body=OTHER)]
    assert fetch(web, target)
    assert_fetched(target)
    assert len(web.gets()) == 2


def test_wrong_bytes_twice_are_an_error_and_not_kept(web, target):
    web.files["/fan.zip"] = OTHER
    with pytest.raises(DownloadError, match=r"another checksum.*nothing is kept"):
        fetch(web, target)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("left", [OTHER[:1000], OTHER, OTHER + b"more", CONTENT + b"more"], ids=len)
def test_a_partial_file_that_is_wrong_is_thrown_away(web, target, left):
    target.parent.mkdir()
    partial(target).write_bytes(left)
    assert fetch(web, target)
    assert_fetched(target)


@pytest.mark.parametrize("size", [True, False])
def test_a_partial_file_that_is_whole_is_only_checked_and_moved(web, target, size):
    target.parent.mkdir()
    partial(target).write_bytes(CONTENT)
    assert fetch(web, target, size=size)
    assert_fetched(target)
    assert len(web.gets()) == (0 if size else 1)


def test_a_file_that_changes_on_the_server_meanwhile_is_fetched_anew(web, target):
    web.plan = [Behaviour(cut_after=100_000, body=OTHER, etag='"old"')]
    assert fetch(web, target)
    assert_fetched(target)
    assert [bool(asked.range) for asked in web.gets()] == [False, True, False]


def test_two_at_once_do_not_disturb_each_other(web, target):
    target.parent.mkdir()
    with partial(target).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process is fetching"):
            fetch(web, target)
    assert fetch(web, target)
    assert_fetched(target)


def test_a_download_that_is_stopped_keeps_its_bytes(web, target):
    with pytest.raises(StoppedError):
        fetch(web, target, Watcher(stop_at=100_000))
    assert partial(target).stat().st_size == 100_000
    assert fetch(web, target)
    assert_fetched(target)
    assert web.gets()[-1].range == "bytes=100000-"


def test_a_server_that_is_not_there_is_named(tmp_path):
    missing = PublishedFile("http://127.0.0.1:9/fan.zip", "0" * 32, 5)
    watcher = Watcher()
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/fan\.zip: given up after 4 tries.*[Cc]onnection"):
        download(missing, tmp_path / "fan.zip", RETRYING, watcher)
    assert "object at" not in watcher.reasons[0]


@pytest.fixture
def s3_url(moto, use, request):
    use(moto)
    client(moto).create_bucket(Bucket="mimii")
    return f"s3://mimii/{abs(hash(request.node.name))}.zip"


def stored(moto, url):
    answer = client(moto).get_object(Bucket="mimii", Key=url.removeprefix("s3://mimii/"))
    return answer["Body"].read(), answer["Metadata"]


def test_a_file_streams_to_s3_over_cut_connections(web, moto, s3_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    web.plan = [Behaviour(cut_after=100_000), Behaviour(status=503)]
    assert transfer(wanted(web), s3_url, Access(), RETRYING, Watcher())
    assert stored(moto, s3_url) == (CONTENT, {"md5": wanted(web).md5})
    assert list(tmp_path.iterdir()) == []
    n_asked = len(web.asked)
    assert not transfer(wanted(web), s3_url, Access(), RETRYING, Watcher())
    assert len(web.asked) == n_asked


def test_wrong_bytes_do_not_appear_on_s3(web, moto, s3_url):
    web.files["/fan.zip"] = OTHER
    with pytest.raises(DownloadError, match="another checksum"):
        transfer(wanted(web), s3_url, Access(), RETRYING, Watcher())
    assert s3.describe(s3_url, Access()) is None
    assert "Uploads" not in client(moto).list_multipart_uploads(Bucket="mimii")


def test_a_transfer_that_is_stopped_leaves_nothing_on_s3(web, moto, s3_url):
    with pytest.raises(StoppedError):
        transfer(wanted(web), s3_url, Access(), RETRYING, Watcher(stop_at=100_000))
    assert s3.describe(s3_url, Access()) is None
    assert "Uploads" not in client(moto).list_multipart_uploads(Bucket="mimii")


@pytest.mark.parametrize(
    ("content", "is_right"),
    [(CONTENT, True), (OTHER, False), (CONTENT[:-1], False)],
    ids=["right", "other bytes", "too short"],
)
def test_an_object_without_a_checksum_in_its_metadata_is_read_and_checked(web, moto, s3_url, content, is_right):
    client(moto).put_object(Bucket="mimii", Key=s3_url.removeprefix("s3://mimii/"), Body=content)
    if is_right:
        assert not transfer(wanted(web), s3_url, Access(), RETRYING, Watcher())
    else:
        with pytest.raises(DownloadError, match="left alone"):
            transfer(wanted(web), s3_url, Access(), RETRYING, Watcher())
    assert stored(moto, s3_url)[0] == content
    assert web.asked == []
