"""Patterns of paths: what they match, what they say, and how wrong ones are refused."""

import logging
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mimii
from mimii.recordings import RESERVED_COLUMNS, LayoutError, read_layout
from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN
from tests.helpers.archives import pack_folder
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client


def match(pattern, path):
    return read_layout(pattern).match(path)


def seconds(*date):
    return datetime(*date, tzinfo=UTC).timestamp()


def test_known_names_are_what_they_are_in_lists():
    who = match(
        "{machine_type}/{machine_id}/{snr_db}dB/{split}_{domain}/{label}/{attributes}_{number}.wav",
        "/data/2024/press/line 3/-6.5dB/train_Source/NG/car_A1_0012.wav",
    )
    assert (who.machine_type, who.machine_id, who.snr_db, who.label) == ("press", "line 3", -6.5, ABNORMAL)
    assert (who.split, who.domain, who.attributes, who.number) == ("train", "source", "car_A1", 12)
    assert who.columns == ()
    assert math.isnan(who.recorded_at)


def test_other_names_become_columns_sorted_by_name():
    who = match("{site}/{machine_id}/{Shift}-{load_kw}_{label}.wav", "x/Kobe/press7/night-4.5_ok.WAV")
    assert who.columns == (("Shift", "night"), ("load_kw", "4.5"), ("site", "Kobe"))
    assert (who.machine_id, who.label) == ("press7", NORMAL)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{recorded_at:%Y%m%d-%H%M%S}.wav", "20240501-063005.wav", (2024, 5, 1, 6, 30, 5)),
        ("{recorded_at:%Y-%m-%d/%H%M%S}.flac", "a/2024-05-01/063005.flac", (2024, 5, 1, 6, 30, 5)),
        ("x_{recorded_at:%d.%m.%y %H.%M}", "x_01.05.24 06.30.wav", (2024, 5, 1, 6, 30)),
        ("{recorded_at:%Y%m%dT%H%M%S%z}.wav", "20240501T083005+0200.wav", (2024, 5, 1, 6, 30, 5)),
        ("{recorded_at}.wav", "2024-05-01T06:30:05.wav", (2024, 5, 1, 6, 30, 5)),
        ("{recorded_at}.wav", "20240501T083005+0200.wav", (2024, 5, 1, 6, 30, 5)),
        ("{recorded_at:%Y-%j}.wav", "2024-122.wav", (2024, 5, 1)),
    ],
)
def test_a_time_has_directives_or_is_iso_8601_and_is_of_utc(pattern, path, expected):
    assert match(pattern, path).recorded_at == seconds(*expected)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{recorded_at:%Y%m%d}.wav", "20241301.wav"),
        ("{recorded_at:%Y%m%d}.wav", "00010101.wav"),
        ("{recorded_at}.wav", "yesterday.wav"),
        ("{label}/{number}.wav", "broken/1.wav"),
        ("{label}/{number}.wav", "normal/one.wav"),
        ("{label}/{number}.wav", "normal/99999999999.wav"),
        ("{site}/{machine_id}/{label}/*", "press7/normal/1.wav"),
        ("{site}/*_{label}.wav", "a/normal.wav"),
        ("{site}/*_{label}.wav", "a/b/x_normal.flac"),
        ("{machine_id}/*.wav", "a.wav"),
    ],
)
def test_what_does_not_match_says_nothing(pattern, path):
    assert match(pattern, path) is None


@pytest.mark.parametrize("name", ["1_x_abnormal.wav", "_abnormal.wav"])
def test_a_label_is_a_whole_word(name):
    assert match("{machine_id}/*_{label}.wav", f"press7/{name}").label == ABNORMAL


def test_a_last_name_without_a_suffix_stands_for_any():
    assert match("{machine_id}/{number}", "press7/12.flac").number == 12
    assert match("{machine_id}/*", "press7/a.b.flac").machine_id == "press7"


def test_an_archive_is_a_folder_without_its_suffix():
    assert match("{site}/{label}/*", "/data/kobe.zip/normal/1.wav").columns == (("site", "kobe"),)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "no name in braces"),
        ("*/*.wav", "no name in braces"),
        ("{machine_id/*.wav", "a brace { without the other one"),
        ("machine_id}/*.wav", "a brace } without the other one"),
        ("{}/*.wav", "{} is no name of a column"),
        ("{load kW}.wav", "{load kW} is no name of a column"),
        ("{machine_id}/{Machine_ID}.wav", "{machine_id} is there twice"),
        ("{site}/{SITE}.wav", "is there twice"),
        ("{recorded_at:%Y%q}.wav", "%q is no directive"),
        ("{recorded_at:%Y%}.wav", "% is no directive"),
        ("{recorded_at:%H%M}.wav", "has no year"),
        ("{recorded_at:%Y%Y}.wav", "%Y is there twice"),
        ("{site:%Y}.wav", "recorded_at alone has a format"),
        ("{machine_id}{number}.wav", "there must be text between them"),
        ("*{label}.wav", "there must be text between them"),
        ("**/{label}.wav", "folders above are free"),
        ("{label}/", "must not end with a slash"),
    ],
)
def test_a_wrong_pattern_is_refused_with_what_is_wrong(pattern, said):
    with pytest.raises(LayoutError) as caught:
        read_layout(pattern)
    assert str(caught.value).startswith(f"layout {pattern!r}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", sorted(RESERVED_COLUMNS - set(mimii.recordings.columns.COLUMNS)))
def test_a_reserved_name_is_refused_by_name(name):
    with pytest.raises(LayoutError, match=f"{{{name.upper()}}} is a name that tables use themselves"):
        read_layout(f"{{{name.upper()}}}/*.wav")


@given(
    st.lists(st.sampled_from(["site", "machine_id", "shift", "machine_type"]), unique=True, min_size=1),
    st.lists(st.from_regex(r"[a-zA-Z0-9 _.+-]{1,12}", fullmatch=True), min_size=4, max_size=4),
    st.sampled_from(["", "/", "/mnt/a_b/", "s3://bucket/"]),
)
def test_a_path_made_of_a_pattern_says_what_it_was_made_of(names, texts, above):
    said = dict(zip(names, texts, strict=False))
    path = above + "/".join(f"x{texts}y" for texts in said.values()) + "/1.wav"
    who = match("/".join(f"x{{{name}}}y" for name in names) + "/{number}.wav", path)
    known = {name: getattr(who, name) for name in names if name.startswith("machine")}
    assert {**known, **dict(who.columns)} == {
        name: text.removesuffix(".0") if name == "machine_id" and text[:-2].isdecimal() else text
        for name, text in said.items()
    }
    assert who.number == 1


@given(st.text(alphabet="{}*:%Ymd/_.ab", max_size=20))
def test_any_pattern_is_read_or_refused(pattern):
    try:
        layout = read_layout(pattern)
    except LayoutError:
        return
    assert layout.match("a/b/normal/2024.wav") is None or layout.n_parts <= 4


@pytest.fixture
def raw(tmp_path):
    """Return a folder of two sites with the same machine, and one recording that is elsewhere."""
    for seed, path in enumerate(("siteA/press7/1_normal", "siteA/press7/2_bad", "siteB/press7/1_normal", "notes")):
        write_clip(tmp_path / "raw" / f"{path}.wav", seed, 50)
    return tmp_path / "raw"


PATTERN = "{site}/{machine_id}/*_{label}.wav"
SITES = (("siteA", NORMAL), ("siteA", ABNORMAL), ("siteB", NORMAL))
SAID = [("", UNKNOWN, ()), *[("press7", label, (("site", site),)) for site, label in SITES]]


def said(clips):
    return [(who.machine_id, who.label, who.columns) for who in (clip.identity for clip in clips)]


def test_recordings_are_what_a_layout_says_and_others_are_counted(raw, caplog):
    with caplog.at_level(logging.WARNING):
        clips = mimii.find_recordings(raw, layout=PATTERN)
    assert said(clips) == SAID
    unmatched, merged = [record.getMessage() for record in caplog.records]
    assert unmatched == (
        f"recordings that do not match the layout {PATTERN}: 1 of 4, such as {raw}/notes.wav; their machine and "
        "label stay unknown"
    )
    assert "press7 of siteA and of siteB" in merged


def test_a_layout_holds_in_archives_and_on_s3(raw, tmp_path, moto, use):
    assert said(mimii.find_recordings(pack_folder(tmp_path / "a.zip", raw), layout=PATTERN)) == SAID
    use(moto)
    client(moto).create_bucket(Bucket="layouts")
    for path in raw.rglob("*.wav"):
        client(moto).put_object(Bucket="layouts", Key=str(path.relative_to(raw)), Body=path.read_bytes())
    assert said(mimii.find_recordings("s3://layouts", layout=PATTERN)) == SAID


def test_with_a_layout_nothing_else_is_taken_from_the_path(tmp_path):
    write_clip(tmp_path / "6_dB_fan/fan/id_00/normal/00000001.wav", 1, 50)
    [clip] = mimii.find_recordings(tmp_path, layout="{shift}/{label}/*")
    who = clip.identity
    assert (who.machine_type, who.machine_id, who.number, who.label) == ("", "", -1, NORMAL)
    assert who.columns == (("shift", "id_00"),)
    assert math.isnan(who.snr_db)


def test_a_list_knows_better_than_a_layout_and_columns_of_both_are_kept(raw, caplog):
    (raw / "list.csv").write_text("path,label,operator\nsiteA/press7/1_normal.wav,abnormal,Ann\nnotes.wav,,Bob\n")
    clips = mimii.find_recordings(raw, lists=raw / "list.csv", layout=PATTERN)
    assert said(clips)[:2] == [
        ("", UNKNOWN, (("operator", "Bob"),)),
        ("press7", ABNORMAL, (("operator", "Ann"), ("site", "siteA"))),
    ]
    assert "match the layout" not in caplog.text  # what is listed may be anywhere


def test_columns_of_a_layout_are_columns_of_the_frame(raw):
    frame = mimii.find_recordings(raw, layout="{site}/{machine_id}/{take}_{label}.wav").to_pandas()
    assert frame.site.tolist() == ["", "siteA", "siteA", "siteB"]
    assert frame["take"].tolist()[1:] == [1.0, 2.0, 1.0]


def test_a_wrong_layout_is_an_error_of_a_value(tmp_path):
    with pytest.raises(ValueError, match=r"layout '\{site': a brace"):
        mimii.find_recordings(tmp_path, layout="{site")


def test_machines_that_a_layout_gives_one_id_in_several_folders_are_warned_of(tmp_path, caplog):
    for site in ("north", "south"):
        write_clip(tmp_path / site / "press7" / "normal" / "1.wav", len(site))
        write_clip(tmp_path / site / f"pump-{site}" / "normal" / "1.wav", 10 + len(site))
    found = mimii.find_recordings(tmp_path, layout="{site}/{machine_id}/{label}/*.wav")
    assert len(found) == 4
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith("different folders count as one machine: press7 of north and of south; name that folder")
    caplog.clear()
    mimii.find_recordings(tmp_path, layout="{machine_type}/{machine_id}/{label}/*.wav")
    assert not caplog.records
