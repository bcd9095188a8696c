"""Whole objects: the old one or the new one, and nothing in between."""

import os
import threading

import pytest

from mimii import objects


def files_below(root):
    return sorted(os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names)


def test_what_is_put_can_be_got(tmp_path):
    root = str(tmp_path / "new" / "store")
    contents = {"zarr.json": b"{}", "features/c.0.0": bytes(range(256)), "features/records/0.json": b""}
    for key, data in contents.items():
        objects.put(root, key, data)
    assert {key: objects.get(root, key) for key in contents} == contents
    assert files_below(root) == sorted(contents)


def test_what_is_put_again_replaces_what_was_there(tmp_path):
    for data in (b"a long first version", b"short", b""):
        objects.put(str(tmp_path), "a/b", data)
        assert objects.get(str(tmp_path), "a/b") == data


def test_nothing_is_got_where_there_is_nothing(tmp_path):
    objects.put(str(tmp_path), "file", b"x")
    assert objects.get(str(tmp_path), "gone") is None
    assert objects.get(str(tmp_path), "gone/too") is None
    assert objects.get(str(tmp_path), "file/below") is None
    assert objects.get(str(tmp_path / "no root"), "a") is None


def test_what_cannot_be_read_raises(tmp_path):
    objects.put(str(tmp_path), "folder/a", b"x")
    with pytest.raises(OSError, match="folder"):
        objects.get(str(tmp_path), "folder")


def test_a_reader_never_sees_half_an_object(tmp_path):
    root, size, n_writes = str(tmp_path), 300_000, 60
    objects.put(root, "a", bytes([0]) * size)
    seen, finished = [], threading.Event()

    def read():
        while not finished.is_set():
            data = objects.get(root, "a")
            seen.append(data is not None and len(data) == size and data == data[:1] * size)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for value in range(n_writes):
            objects.put(root, "a", bytes([value]) * size)
    finally:
        finished.set()
        reader.join()
    assert seen
    assert all(seen)


def test_writers_of_one_object_do_not_disturb_each_other(tmp_path):
    root, size = str(tmp_path), 100_000
    writers = [
        threading.Thread(target=lambda value=value: [objects.put(root, "a/b", bytes([value]) * size) for _ in range(8)])
        for value in range(6)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    data = objects.get(root, "a/b")
    assert data == data[:1] * size
    assert data[0] in range(6)
    assert files_below(root) == ["a/b"]


def test_a_put_below_a_file_fails_and_changes_nothing(tmp_path):
    objects.put(str(tmp_path), "a", b"old")
    with pytest.raises(OSError, match="a"):
        objects.put(str(tmp_path), "a/b/c", b"new")
    assert objects.get(str(tmp_path), "a") == b"old"
    assert files_below(tmp_path) == ["a"]


def test_a_put_in_place_of_a_folder_fails_and_changes_nothing(tmp_path):
    objects.put(str(tmp_path), "a/b", b"old")
    with pytest.raises(OSError, match="a"):
        objects.put(str(tmp_path), "a", b"new")
    assert objects.get(str(tmp_path), "a/b") == b"old"
    assert files_below(tmp_path) == ["a/b"]


def test_a_put_below_a_root_that_is_a_file_fails_and_changes_nothing(tmp_path):
    (tmp_path / "root").write_bytes(b"mine")
    with pytest.raises(OSError, match="root"):
        objects.put(str(tmp_path / "root"), "a", b"new")
    assert (tmp_path / "root").read_bytes() == b"mine"


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_put_on_a_full_disk_keeps_the_old_object_and_leaves_no_part_of_the_new(tmp_path, monkeypatch, fails):
    objects.put(str(tmp_path), "a", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if fails == "fsync" else ("pathlib.Path.replace",)), no_space)
        with pytest.raises(OSError, match="No space"):
            objects.put(str(tmp_path), "a", b"new")
    assert objects.get(str(tmp_path), "a") == b"old"
    assert files_below(tmp_path) == ["a"]


def test_sizes_are_of_the_objects_of_one_folder(tmp_path):
    for key, data in {"f/a": b"1", "f/b": b"22", "f/sub/c": b"333", "other/d": b"4444"}.items():
        objects.put(str(tmp_path), key, data)
    assert objects.sizes(str(tmp_path), "f") == {"a": 1, "b": 2}
    assert objects.sizes(str(tmp_path), "gone") == {}
    assert objects.sizes(str(tmp_path / "gone"), "f") == {}


def test_names_are_sorted_and_of_objects_and_folders(tmp_path):
    for key in ("z", "b/c", "a"):
        objects.put(str(tmp_path), key, b"x")
    objects.delete_partial(str(tmp_path))
    assert objects.names(str(tmp_path)) == ["a", "b", "z"]
    assert objects.names(str(tmp_path / "gone")) == []
    with pytest.raises(NotADirectoryError):
        objects.names(str(tmp_path / "a"))


def test_an_object_or_all_below_a_prefix_is_deleted(tmp_path):
    for key in ("a/b", "a/c/d", "ab", "e"):
        objects.put(str(tmp_path), key, b"x")
    objects.delete(str(tmp_path), "e")
    objects.delete(str(tmp_path), "a")
    objects.delete(str(tmp_path), "gone")
    objects.delete(str(tmp_path), "gone/too")
    assert files_below(tmp_path) == ["ab"]


def test_the_whole_root_is_deleted_by_the_empty_prefix(tmp_path):
    objects.put(str(tmp_path / "store"), "a/b", b"x")
    (tmp_path / "beside").write_bytes(b"kept")
    objects.delete(str(tmp_path / "store"), "")
    assert os.listdir(tmp_path) == ["beside"]


def test_of_a_link_only_the_link_is_deleted(tmp_path):
    objects.put(str(tmp_path / "elsewhere"), "a", b"kept")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "elsewhere")
    objects.delete(str(tmp_path / "store"), "link")
    assert files_below(tmp_path) == ["elsewhere/a"]


def test_what_killed_writers_left_behind_is_deleted(tmp_path):
    objects.put(str(tmp_path), "a/b", b"x")
    objects.put(str(tmp_path), f"{objects.PARTIAL}/0123", b"half of someth")
    objects.delete_partial(str(tmp_path))
    objects.delete_partial(str(tmp_path))
    assert objects.names(str(tmp_path)) == ["a"]
    assert objects.get(str(tmp_path), "a/b") == b"x"
