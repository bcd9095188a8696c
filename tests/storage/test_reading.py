"""Recordings on S3 are fetched ahead, a window at a time, with bounded memory and in order."""

import threading

import pytest

from mimii.storage import reading, s3
from mimii.storage.access import Access
from mimii.storage.places import Place
from mimii.storage.reading import ReadOptions, open_all
from mimii.storage.s3 import StorageError
from tests.helpers.servers import wait_for


def places(n, size=1000):
    return [Place(f"s3://bucket/{index}.wav", size, "etag") for index in range(n)]


class SlowS3:
    """Replaces S3: each fetch waits until the gate is open."""

    def __init__(self):
        self.begun, self.under_way, self.most, self.lock = [], 0, 0, threading.Lock()
        self.gate = threading.Event()

    def read(self, url, start, stop, _access):
        with self.lock:
            self.begun.append(url)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.gate.wait()
        with self.lock:
            self.under_way -= 1
        if "broken" in url:
            msg = f"{url}: broken"
            raise StorageError(msg)
        return url.encode().ljust(stop - start, b"\0")


@pytest.fixture
def remote(monkeypatch):
    remote = SlowS3()
    monkeypatch.setattr(s3, "read", remote.read)
    reading._pool.cache_clear()
    yield remote
    remote.gate.set()
    reading._pool.cache_clear()


def read(opener):
    with opener() as file:
        return file.read().rstrip(b"\0").decode()


def test_a_window_is_under_way_before_the_first_is_asked_for(remote):
    openers = open_all(places(20), ReadOptions(Access(), window=4))
    next(openers)
    wait_for(lambda: remote.under_way == 4, "four fetches")
    remote.gate.set()
    wait_for(lambda: len(remote.begun) == 8, "as many again, ahead of the reader")
    assert remote.most == 4


def test_recordings_are_opened_in_order(remote):
    remote.gate.set()
    wanted = places(50)
    assert [read(opener) for opener in open_all(wanted, ReadOptions(Access(), 7))] == [place.url for place in wanted]
    assert sorted(remote.begun) == sorted(place.url for place in wanted)


def test_tasks_of_one_process_share_the_window(remote):
    one, other = (open_all(places(20), ReadOptions(Access(), 3)) for _ in range(2))
    next(one)
    next(other)
    wait_for(lambda: remote.under_way == 3, "three fetches")
    remote.gate.set()
    assert len([read(opener) for openers in (one, other) for opener in openers]) == 38
    assert remote.most == 3


def test_only_so_many_bytes_are_fetched_ahead(remote, monkeypatch):
    monkeypatch.setattr(reading, "MOST_AHEAD", 10_000)
    openers = open_all(places(50, size=3000), ReadOptions(Access(), 16))
    remote.gate.set()
    for index in range(10):
        opener = next(openers)
        wait_for(lambda index=index: len(remote.begun) == index + 3, "three at a time, the one in hand included")
        assert read(opener)
    assert len(remote.begun) == 12


def test_a_recording_larger_than_the_memory_for_all_is_fetched_alone(remote, monkeypatch):
    monkeypatch.setattr(reading, "MOST_AHEAD", 10_000)
    remote.gate.set()
    assert len([read(opener) for opener in open_all(places(5, size=20_000), ReadOptions(Access(), 16))]) == 5


def test_recordings_after_the_last_one_read_are_not_fetched(remote):
    openers = open_all(places(100), ReadOptions(Access(), 2))
    next(openers)
    wait_for(lambda: remote.under_way == 2, "two fetches")
    openers.close()
    remote.gate.set()
    wait_for(lambda: remote.under_way == 0, "the end of these")
    reading._pool(2).submit(lambda: None).result()  # runs after all that might still be in the queue
    assert len(remote.begun) == 2


def test_a_failed_fetch_raises_where_the_recording_is_opened(remote):
    remote.gate.set()
    wanted = places(5)
    wanted[2] = Place("s3://bucket/broken.wav", 1000, "etag")
    openers = list(open_all(wanted, ReadOptions(Access(), 2)))
    with pytest.raises(StorageError, match="broken"):
        openers[2]()
    assert [read(openers[index]) for index in (0, 1, 3, 4)] == [wanted[index].url for index in (0, 1, 3, 4)]


def test_files_on_a_disk_need_no_threads(remote, tmp_path):
    (tmp_path / "a").write_bytes(b"local")
    [opener] = open_all([Place(str(tmp_path / "a"), 5)], ReadOptions())
    with opener() as file:
        assert file.read() == b"local"
    assert remote.begun == []
    assert reading._pool.cache_info().currsize == 0
