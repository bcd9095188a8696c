"""Recordings that are far away: fetched ahead, a window at a time, with bounded memory and in order."""

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


class Far:
    """Stands for S3: each fetch waits until it is let through."""

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
def far(monkeypatch):
    far = Far()
    monkeypatch.setattr(s3, "read", far.read)
    reading._pool.cache_clear()
    yield far
    far.gate.set()
    reading._pool.cache_clear()


def read(opener):
    with opener() as file:
        return file.read().rstrip(b"\0").decode()


def test_a_window_is_under_way_before_the_first_is_asked_for(far):
    openers = open_all(places(20), ReadOptions(Access(), window=4))
    next(openers)
    wait_for(lambda: far.under_way == 4, "four fetches")
    far.gate.set()
    wait_for(lambda: len(far.begun) == 8, "as many again, ahead of the reader")
    assert far.most == 4


def test_all_come_in_order(far):
    far.gate.set()
    wanted = places(50)
    assert [read(opener) for opener in open_all(wanted, ReadOptions(Access(), 7))] == [place.url for place in wanted]
    assert sorted(far.begun) == sorted(place.url for place in wanted)


def test_tasks_of_one_process_share_the_window(far):
    one, other = (open_all(places(20), ReadOptions(Access(), 3)) for _ in range(2))
    next(one)
    next(other)
    wait_for(lambda: far.under_way == 3, "three fetches")
    far.gate.set()
    assert len([read(opener) for openers in (one, other) for opener in openers]) == 38
    assert far.most == 3


def test_only_so_many_bytes_are_fetched_ahead(far, monkeypatch):
    monkeypatch.setattr(reading, "_MOST_AHEAD", 10_000)
    openers = open_all(places(50, size=3000), ReadOptions(Access(), 16))
    far.gate.set()
    for index in range(10):
        opener = next(openers)
        wait_for(lambda index=index: len(far.begun) == index + 3, "three at a time, the one in hand included")
        assert read(opener)
    assert len(far.begun) == 12


def test_one_larger_than_all_that_may_be_held_is_fetched_alone(far, monkeypatch):
    monkeypatch.setattr(reading, "_MOST_AHEAD", 10_000)
    far.gate.set()
    assert len([read(opener) for opener in open_all(places(5, size=20_000), ReadOptions(Access(), 16))]) == 5


def test_what_nobody_waits_for_any_more_is_not_fetched(far):
    openers = open_all(places(100), ReadOptions(Access(), 2))
    next(openers)
    wait_for(lambda: far.under_way == 2, "two fetches")
    openers.close()
    far.gate.set()
    wait_for(lambda: far.under_way == 0, "the end of these")
    reading._pool(2).submit(lambda: None).result()  # comes after all that might still wait in the queue
    assert len(far.begun) == 2


def test_what_cannot_be_fetched_is_told_where_it_is_opened(far):
    far.gate.set()
    wanted = places(5)
    wanted[2] = Place("s3://bucket/broken.wav", 1000, "etag")
    openers = list(open_all(wanted, ReadOptions(Access(), 2)))
    with pytest.raises(StorageError, match="broken"):
        openers[2]()
    assert [read(openers[index]) for index in (0, 1, 3, 4)] == [wanted[index].url for index in (0, 1, 3, 4)]


def test_files_on_a_disk_need_no_threads(far, tmp_path):
    (tmp_path / "a").write_bytes(b"near")
    [opener] = open_all([Place(str(tmp_path / "a"), 4)], ReadOptions())
    with opener() as file:
        assert file.read() == b"near"
    assert far.begun == []
    assert reading._pool.cache_info().currsize == 0
