"""Places as users write them: what is a path, what is a URL, and what was probably meant."""

from pathlib import Path

import pytest

import mimii
from mimii.storage import LocationError, as_path


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("data/raw", "data/raw"),
        (Path("data/raw"), "data/raw"),
        ("s3://bucket/x y", "s3://bucket/x y"),
        ("s3://bucket", "s3://bucket"),
        ("file:///data/with%20space", "/data/with space"),
        ("file://localhost/data", "/data"),
        (r"C:\data", r"C:\data"),
        ("shift:2/a.wav", "shift:2/a.wav"),
        ("./s3:x", "./s3:x"),
    ],
)
def test_paths_and_urls_are_taken(given, path):
    assert as_path(given) == path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3:/bucket/x", "did you mean s3://bucket/x?"),
        ("s3:bucket/x", "did you mean s3://bucket/x?"),
        ("s3:///bucket/x", "did you mean s3://bucket/x?"),
        ("S3://bucket/x", "did you mean s3://bucket/x?"),
        ("s3a://bucket/x", "did you mean s3://bucket/x?"),
        (Path("s3://bucket/x"), "did you mean s3://bucket/x? (pathlib joins the slashes of a URL: give it as text)"),
        ("s3://", "names no bucket; write s3://bucket/prefix"),
        ("s3:", "names no bucket; write s3://bucket/prefix"),
        ("file:/data", "did you mean /data? As a URL, that is file:///FOLDER"),
        ("file:data", "did you mean data?"),
        ("file://data/raw", "did you mean data/raw?"),
        ("gs://bucket/x", "must be a path of this machine or s3://bucket/prefix"),
    ],
)
def test_other_places_are_refused_with_what_was_probably_meant(given, meant):
    with pytest.raises(LocationError) as caught:
        as_path(given)
    assert str(caught.value).startswith(f"{given}: {meant}")


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(LocationError, match="user name or password") as caught:
        as_path("s3://me:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        mimii.find_recordings,
        mimii.log_mel,
        mimii.open_table,
        mimii.verify,
        mimii.detect,
        lambda place: next(iter(mimii.batches(place))),
        lambda place: mimii.read_clip(place, 0),
        lambda place: mimii.score("data", place),
        lambda place: mimii.find_recordings(lists=place),
    ],
)
def test_the_front_door_takes_no_folder_that_looks_like_a_url(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:/bucket").mkdir(parents=True)
    with pytest.raises(LocationError, match=r"s3:/bucket/x: did you mean s3://bucket/x\?"):
        use("s3:/bucket/x")
    assert [path.name for path in Path("s3:").rglob("*")] == ["bucket"]


def test_a_list_may_not_name_one_either(tmp_path):
    (tmp_path / "list.csv").write_text("path\na.wav\ns3:/bucket/b.wav\n")
    with pytest.raises(mimii.SourceError, match=r"list.csv, line 3: s3:/bucket/b.wav: did you mean s3://bucket/b.wav"):
        mimii.find_recordings(lists=tmp_path / "list.csv")
