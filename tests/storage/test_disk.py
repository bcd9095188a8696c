"""Whole objects: the old one or the new one, and nothing in between."""

import errno
import logging
import os
import stat
import threading

import pytest

from mimii.storage import disk
from mimii.storage.disk import DiskObjects
from tests.helpers.servers import wait_for


def files_below(root):
    return sorted(os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names)


def test_objects_that_are_put_can_be_read(tmp_path):
    root = str(tmp_path / "new" / "store")
    contents = {"zarr.json": b"{}", "features/c.0.0": bytes(range(256)), "features/records/0.json": b""}
    for key, data in contents.items():
        DiskObjects(root).put(key, data)
    assert {key: DiskObjects(root).get(key) for key in contents} == contents
    assert files_below(root) == sorted(contents)


def test_a_second_put_replaces_an_object(tmp_path):
    for data in (b"a long first version", b"short", b""):
        DiskObjects(str(tmp_path)).put("a/b", data)
        assert DiskObjects(str(tmp_path)).get("a/b") == data


def test_an_object_that_does_not_exist_is_none(tmp_path):
    DiskObjects(str(tmp_path)).put("file", b"x")
    assert DiskObjects(str(tmp_path)).get("missing") is None
    assert DiskObjects(str(tmp_path)).get("missing/too") is None
    assert DiskObjects(str(tmp_path)).get("file/below") is None
    assert DiskObjects(str(tmp_path / "no root")).get("a") is None


def test_a_folder_read_as_an_object_raises(tmp_path):
    DiskObjects(str(tmp_path)).put("folder/a", b"x")
    with pytest.raises(OSError, match="folder"):
        DiskObjects(str(tmp_path)).get("folder")


def test_a_reader_never_sees_half_an_object(tmp_path):
    root, size, n_writes = str(tmp_path), 300_000, 60
    DiskObjects(root).put("a", bytes([0]) * size)
    seen, finished = [], threading.Event()

    def read():
        while not finished.is_set():
            data = DiskObjects(root).get("a")
            seen.append(data is not None and len(data) == size and data == data[:1] * size)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(lambda: seen, "the first read")
        for value in range(n_writes):
            DiskObjects(root).put("a", bytes([value]) * size)
    finally:
        finished.set()
        reader.join()
    assert all(seen)


def test_writers_of_one_object_do_not_disturb_each_other(tmp_path):
    root, size = str(tmp_path), 100_000
    writers = [
        threading.Thread(
            target=lambda data=bytes([value]) * size: [DiskObjects(root).put("a/b", data) for _ in range(8)]
        )
        for value in range(6)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    data = DiskObjects(root).get("a/b")
    assert data == data[:1] * size
    assert data[0] in range(6)
    assert files_below(root) == ["a/b"]


def test_a_put_below_a_file_fails_and_changes_nothing(tmp_path):
    DiskObjects(str(tmp_path)).put("a", b"old")
    with pytest.raises(OSError, match="a"):
        DiskObjects(str(tmp_path)).put("a/b/c", b"new")
    assert DiskObjects(str(tmp_path)).get("a") == b"old"
    assert files_below(tmp_path) == ["a"]


def test_a_put_in_place_of_a_folder_fails_and_changes_nothing(tmp_path):
    DiskObjects(str(tmp_path)).put("a/b", b"old")
    with pytest.raises(OSError, match="a"):
        DiskObjects(str(tmp_path)).put("a", b"new")
    assert DiskObjects(str(tmp_path)).get("a/b") == b"old"
    assert files_below(tmp_path) == ["a/b"]


def test_a_put_below_a_root_that_is_a_file_fails_and_changes_nothing(tmp_path):
    (tmp_path / "root").write_bytes(b"mine")
    with pytest.raises(OSError, match="root"):
        DiskObjects(str(tmp_path / "root")).put("a", b"new")
    assert (tmp_path / "root").read_bytes() == b"mine"


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_put_on_a_full_disk_keeps_the_old_object_and_leaves_no_temporary_file(tmp_path, monkeypatch, fails):
    DiskObjects(str(tmp_path)).put("a", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if fails == "fsync" else ("pathlib.Path.replace",)), no_space)
        with pytest.raises(OSError, match="No space"):
            DiskObjects(str(tmp_path)).put("a", b"new")
    assert DiskObjects(str(tmp_path)).get("a") == b"old"
    assert files_below(tmp_path) == ["a"]


def test_sizes_are_of_the_objects_below_a_folder(tmp_path):
    for key, data in {"f/a": b"1", "f/b": b"22", "f/sub/c": b"333", "other/d": b"4444"}.items():
        DiskObjects(str(tmp_path)).put(key, data)
    assert DiskObjects(str(tmp_path)).sizes("f") == {"f/a": 1, "f/b": 2, "f/sub/c": 3}
    assert DiskObjects(str(tmp_path)).sizes() == {"f/a": 1, "f/b": 2, "f/sub/c": 3, "other/d": 4}
    assert DiskObjects(str(tmp_path)).sizes("missing") == {}
    assert DiskObjects(str(tmp_path / "missing")).sizes("f") == {}


def test_names_are_sorted_and_of_objects_and_folders(tmp_path):
    for key in ("z", "b/c", "a"):
        DiskObjects(str(tmp_path)).put(key, b"x")
    DiskObjects(str(tmp_path)).delete_partial()
    assert DiskObjects(str(tmp_path)).names() == ["a", "b", "z"]
    assert DiskObjects(str(tmp_path / "missing")).names() == []
    with pytest.raises(NotADirectoryError):
        DiskObjects(str(tmp_path / "a")).names()


def test_an_object_or_all_below_a_prefix_is_deleted(tmp_path):
    for key in ("a/b", "a/c/d", "ab", "e"):
        DiskObjects(str(tmp_path)).put(key, b"x")
    DiskObjects(str(tmp_path)).delete("e")
    DiskObjects(str(tmp_path)).delete_below("a")
    DiskObjects(str(tmp_path)).delete("missing")
    DiskObjects(str(tmp_path)).delete_below("missing/too")
    assert files_below(tmp_path) == ["ab"]


def test_the_whole_root_is_deleted_by_the_empty_prefix(tmp_path):
    DiskObjects(str(tmp_path / "store")).put("a/b", b"x")
    (tmp_path / "beside").write_bytes(b"kept")
    DiskObjects(str(tmp_path / "store")).delete_below("")
    assert os.listdir(tmp_path) == ["beside"]


def test_of_a_link_only_the_link_is_deleted(tmp_path):
    DiskObjects(str(tmp_path / "elsewhere")).put("a", b"kept")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "elsewhere")
    DiskObjects(str(tmp_path / "store")).delete_below("link")
    assert files_below(tmp_path) == ["elsewhere/a"]


def test_files_of_killed_writers_are_deleted(tmp_path):
    DiskObjects(str(tmp_path)).put("a/b", b"x")
    DiskObjects(str(tmp_path)).put(f"{disk.PARTIAL}/0123", b"half of someth")
    DiskObjects(str(tmp_path)).delete_partial()
    DiskObjects(str(tmp_path)).delete_partial()
    assert DiskObjects(str(tmp_path)).names() == ["a"]
    assert DiskObjects(str(tmp_path)).get("a/b") == b"x"


@pytest.mark.parametrize("n_times", [1, 3])
def test_a_folder_that_another_writer_makes_and_a_tidier_removes_at_that_moment_is_made_again(
    tmp_path, monkeypatch, n_times
):
    mkdir, met = os.mkdir, []

    def meet_another(path, *mode, **how):
        if os.fspath(path).endswith(disk.PARTIAL) and len(met) < n_times:
            met.append(path)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return mkdir(path, *mode, **how)

    monkeypatch.setattr(os, "mkdir", meet_another)
    DiskObjects(str(tmp_path)).put_all({"a/1": b"one", "b/2": b"two"})
    assert len(met) == n_times
    assert DiskObjects(str(tmp_path)).get_all(["a/1", "b/2"]) == {"a/1": b"one", "b/2": b"two"}


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_something_else_in_place_of_the_temporary_files_is_named(tmp_path, kind):
    partial = tmp_path / disk.PARTIAL
    partial.write_bytes(b"") if kind == "file" else partial.symlink_to("nowhere")
    with pytest.raises(FileExistsError, match=r"/\.partial'$"):
        DiskObjects(str(tmp_path)).put("a/1", b"one")
    assert DiskObjects(str(tmp_path)).sizes("a") == {}


@pytest.fixture
def refusing(monkeypatch):
    """Have fsync of a folder, or of a file, fail with an error."""
    real = os.fsync

    def refuse(number, *, of_folders):
        def fsync(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folders:
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        disk._warn_of_folders.cache_clear()

    return refuse


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_file_system_that_does_not_sync_folders_is_used_with_one_warning(tmp_path, refusing, caplog, number):
    refusing(number, of_folders=True)
    with caplog.at_level(logging.WARNING):
        for key in ("a/1", "b/2", "c/3"):
            DiskObjects(str(tmp_path)).put(key, key.encode())
    assert DiskObjects(str(tmp_path)).get("c/3") == b"c/3"
    assert [record.getMessage() for record in caplog.records if "sync" in record.getMessage()] == [
        "this file system does not sync folders: after a power failure, run the same command again"
    ]


@pytest.mark.parametrize("of_folders", [True, False])
def test_a_disk_that_fails_is_an_error_with_the_path(tmp_path, refusing, of_folders):
    refusing(errno.EIO, of_folders=of_folders)
    with pytest.raises(OSError, match="Input/output error") as caught:
        DiskObjects(str(tmp_path)).put("a/1", b"1")
    assert str(tmp_path) in str(caught.value)


def test_a_check_leaves_nothing_behind_and_names_the_folder_that_cannot_be_written(tmp_path):
    for root in (tmp_path, tmp_path / "not" / "yet"):
        DiskObjects(str(root)).check()
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="below"):
        DiskObjects(str(tmp_path / "file" / "below")).check()
