"""The front door of recordings: sources and lists to one list, with headers; the same as a table."""

import logging
import subprocess
import sys
from datetime import datetime

import pandas as pd
import pytest

import mimii
from mimii.recordings import SPLITS, Recordings, baseline_split, no_split, split_clips, stratified_split
from tests.helpers.archives import pack_folder
from tests.helpers.commands import environment
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import client

COLUMNS = {
    "path": str,
    "machine_type": str,
    "machine_id": str,
    "number": int,
    "snr_db": float,
    "label": str,
    "split": str,
    "domain": str,
    "attributes": str,
    "recorded_at": datetime,
    "sample_rate": int,
    "n_channels": int,
    "duration_s": float,
    "problem": str,
}


def paths(clips):
    return [clip.path for clip in clips]


@pytest.fixture
def raw(tmp_path):
    """Return a folder of a MIMII clip, a DCASE clip, one of unknown layout, and one that is not audio."""
    folder = tmp_path / "raw"
    write_clip(folder / "-6_dB_pump/pump/id_04/abnormal/00000012.wav", 1, 32_000, n_channels=8)
    write_clip(folder / "fan/train/normal_id_01_00000003.wav", 2, 44_100, sample_rate=44_100)
    write_clip(folder / "take one.wav", 3, 4000, n_channels=2, sample_rate=8000)
    (folder / "zero.wav").write_bytes(b"")
    return folder


def test_recordings_of_all_sources_are_one_sorted_list_with_headers(tmp_path, raw):
    write_machines(tmp_path / "made", 4)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "made" / "6_dB_fan")
    clips = mimii.find_recordings(str(raw), str(archive))
    assert isinstance(clips, list)
    assert len(clips) == 8
    assert paths(clips) == sorted(paths(clips))
    assert paths(mimii.find_recordings(str(archive), str(raw))) == paths(clips)
    assert [clip.path for clip in clips if clip.header is None] == [str(raw / "zero.wav")]
    assert [clip.problem for clip in clips if clip.problem] == ["empty file"]


def test_what_it_took_is_known(tmp_path, raw):
    write_machines(tmp_path / "made", 4)
    archive = pack_folder(tmp_path / "6_dB_fan.zip", tmp_path / "made")
    few = mimii.find_recordings(str(raw), str(archive))
    every = mimii.find_recordings(str(raw), str(archive), headers="all")
    assert (few.n_headers, every.n_headers) == (4 + 3, 4 + 4)  # of four clips in three folders of an archive
    assert repr(list(few)) == repr(list(every))  # as text: an unknown SNR is NaN, which equals nothing
    assert (few.n_requests, few.sources) == (0, tuple(sorted([str(raw), str(archive)])))
    assert repr(few) == f"<Recordings: 8 clips from {archive}, {raw}; 1 cannot be read>"


def test_lists_are_sources_too_and_know_better_what_a_clip_is(tmp_path, raw):
    outside = write_clip(tmp_path / "elsewhere" / "b.wav", 9)
    list_ = tmp_path / "list.csv"
    list_.write_text(
        f"path,machine_type,label,split\nraw/take one.wav,press,abnormal,test\n{outside},lathe,normal,train\n"
    )
    clips = mimii.find_recordings(str(raw), lists=[str(list_)])
    assert paths(clips) == sorted(paths(clips))
    who = {clip.path: clip.identity for clip in clips}
    assert len(who) == len(clips) == 5
    named = who[str(raw / "take one.wav")]
    assert (named.machine_type, named.label, named.split) == ("press", 1, "test")
    assert (who[str(outside)].machine_type, who[str(outside)].split) == ("lathe", "train")
    assert clips.sources == tuple(sorted([str(raw), str(list_)]))
    assert paths(mimii.find_recordings(lists=[str(list_)])) == sorted([str(raw / "take one.wav"), str(outside)])


def test_a_source_that_is_not_there_is_refused(tmp_path, raw):
    with pytest.raises(mimii.SourceError, match=r"missing: no such file or folder"):
        mimii.find_recordings(str(raw), str(tmp_path / "missing"))


def test_an_empty_folder_has_no_recordings(tmp_path):
    clips = mimii.find_recordings(str(tmp_path))
    assert (clips, clips.n_headers, clips.sources) == ([], 0, (str(tmp_path),))
    assert mimii.find_recordings() == []


def known(frame, raw, name):
    """Return what the line of a clip says; None for NaN, which equals nothing."""
    [line] = frame[frame.path == str(raw / name)].to_dict("records")
    del line["path"]
    return tuple(None if value != value else value for value in line.values())  # noqa: PLR0124


def test_a_line_for_each_clip_says_what_is_known(raw):
    frame = mimii.find_recordings(str(raw)).to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 4
    abnormal, normal = "-6_dB_pump/pump/id_04/abnormal/00000012.wav", "fan/train/normal_id_01_00000003.wav"
    assert known(frame, raw, abnormal) == ("pump", "id_04", 12, -6, "abnormal", *[""] * 3, None, 16_000, 8, 2.0, "")
    assert known(frame, raw, normal) == ("fan", "id_01", 3, None, "normal", "train", "", "", None, 44_100, 1, 1.0, "")
    assert known(frame, raw, "take one.wav") == ("", "", -1, None, "unknown", *[""] * 3, None, 8000, 2, 0.5, "")
    assert known(frame, raw, "zero.wav") == ("", "", -1, None, "unknown", *[""] * 3, None, 0, 0, None, "empty file")


def test_columns_have_the_types_of_their_values(raw):
    frame = mimii.find_recordings(str(raw)).to_pandas()
    kinds = {"i": int, "f": float, "M": datetime}
    for name, kind in COLUMNS.items():
        values = frame[name]
        assert kinds.get(values.dtype.kind, str) == kind, name
        assert kind is not str or all(isinstance(value, str) for value in values), name


def test_no_clips_are_a_table_without_lines():
    frame = Recordings().to_pandas()
    assert (list(frame.columns), len(frame)) == (list(COLUMNS), 0)
    assert Recordings().to_xarray().sizes == {"clip": 0}


def test_the_same_as_a_dataset_over_clips(raw):
    clips = mimii.find_recordings(str(raw))
    dataset, frame = clips.to_xarray(), clips.to_pandas()
    assert dataset.sizes == {"clip": 4}
    assert list(dataset.data_vars) == list(COLUMNS)
    assert dataset.path.dims == ("clip",)
    for name in COLUMNS:
        pd.testing.assert_series_equal(dataset[name].to_series(), frame[name], check_names=False, check_index=False)


def test_copies_of_a_clip_are_warned_of_and_all_are_taken(tmp_path, caplog):
    for folder in ("one", "other"):
        write_machines(tmp_path / folder, 3)
    with caplog.at_level(logging.WARNING):
        clips = mimii.find_recordings(str(tmp_path))
    assert len(clips) == 6
    [message] = [record.getMessage() for record in caplog.records]
    first, second = (tmp_path / folder / "6_dB_fan/fan/id_00/normal/00000000.wav" for folder in ("one", "other"))
    assert message == (
        f"clips found more than once, with the same machine, SNR, label and number: 3, such as {first} and {second}; "
        "all are used. Leave one of the places out if they are copies"
    )


@pytest.mark.parametrize(
    "names",
    [
        *(("a/normal/00000001.wav", "b/normal/00000001.wav"), ("a/x.wav", "b/x.wav")),
        ("6_dB/fan/id_00/normal/00000001.wav", "0_dB/fan/id_00/normal/00000001.wav"),
    ],
)
def test_clips_of_which_less_is_known_or_that_differ_are_no_copies(tmp_path, caplog, names):
    for seed, name in enumerate(names):
        write_clip(tmp_path / name, seed, 50)
    assert len(mimii.find_recordings(str(tmp_path))) == 2
    assert not caplog.records


def test_recordings_on_s3_are_found_with_few_requests(moto, use, tmp_path):
    use(moto)
    client(moto).create_bucket(Bucket="found")
    for path in write_machines(tmp_path / "raw", 6):
        key = str(path.relative_to(tmp_path / "raw"))
        client(moto).put_object(Bucket="found", Key=key, Body=path.read_bytes())
    clips = mimii.find_recordings("s3://found")
    near = mimii.find_recordings(str(tmp_path))
    assert paths(clips) == [f"s3://found/{path.split('/raw/')[1]}" for path in paths(near)]
    assert [clip.header.n_samples for clip in clips] == [16_000] * 6
    assert clips.n_headers == 3  # of one size, in three folders
    assert clips.n_requests < 6
    every = mimii.find_recordings("s3://found", headers="all")
    assert (every.n_headers, repr(list(every))) == (6, repr(list(clips)))
    assert every.n_requests > clips.n_requests


def test_a_split_has_a_name(tmp_path):
    write_machines(tmp_path, 12)
    clips = mimii.find_recordings(str(tmp_path))
    assert SPLITS == ("baseline", "stratified", "none")
    assert split_clips(clips, "baseline") == baseline_split(clips)
    assert split_clips(clips, "none") == no_split(clips)
    assert split_clips(clips, "stratified", 0.5, 3) == stratified_split(clips, 0.5, 3)
    assert len({tuple(split_clips(clips, name)) for name in SPLITS}) == 3


def test_what_is_found_and_digested_does_not_depend_on_the_locale(tmp_path):
    raw = tmp_path / "raw"
    for seed, name in enumerate(("gerät.wav", "工場.wav", "plain.wav")):
        write_clip(raw / "6_dB_fän" / "fän" / "id_00" / "normal" / name, seed, 4000)
    pack_folder(tmp_path / "raw" / "zürich.zip", tmp_path / "raw" / "6_dB_fän")
    (tmp_path / "list.csv").write_text("path,label\nraw/6_dB_fän/fän/id_00/normal/gerät.wav,1\n", encoding="utf-8")
    script = (
        "import sys; from mimii.recordings import *; from mimii.features import FeatureSpec;"
        "clips = find_recordings('raw') + find_recordings(lists=['list.csv']);"
        "found = digest_clips(make_catalogue(clips, [''] * 7, FeatureSpec()));"
        "said = ascii([(c.path, c.problem, c.identity.machine_type) for c in clips]);"
        "print(sys.getfilesystemencoding(), found, said)"
    )
    said = []
    for locale in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment(**locale), capture_output=True, check=True
        )
        said.append(done.stdout.decode().partition(" ")[::2])
    (first, one), (second, other) = said
    assert (first, second) == ("utf-8", "ascii")
    assert "'', 'f\\xe4n'" in one
    assert one == other


def test_sources_and_lists_are_text_paths_or_lists_of_these(tmp_path, raw):
    expected = paths(mimii.find_recordings(str(raw)))
    assert paths(mimii.find_recordings(raw)) == paths(mimii.find_recordings([raw, str(raw)])) == expected
    (tmp_path / "list.csv").write_text("path\nraw/take one.wav\n")
    for lists in (tmp_path / "list.csv", str(tmp_path / "list.csv"), [tmp_path / "list.csv"]):
        assert len(mimii.find_recordings(lists=lists)) == 1
    with pytest.raises(TypeError, match="int"):
        mimii.find_recordings([1])


def test_an_error_about_a_split_names_one_parameter(raw):
    clips = mimii.find_recordings(raw)
    with pytest.raises(ValueError, match=r"^split must be one of baseline, stratified, none, not 'half'$"):
        split_clips(clips, "half")
    with pytest.raises(ValueError, match=r"^train_fraction must be from 0 to 1, not 2$"):
        split_clips(clips, "stratified", 2)
