"""Columns of lists beyond what a machine is: time, domain, attributes, and columns of one's own."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mimii
from mimii.recordings import RESERVED_COLUMNS
from mimii.recordings.columns import COLUMNS, as_numbers
from mimii.recordings.lists import read_list
from mimii.table import SCHEMA
from tests.helpers.archives import pack, wav
from tests.helpers.recordings import write_clip


def write(folder, *lines, name="list.csv"):
    write_clip(folder / "a.wav", 1, 50)
    write_clip(folder / "b.wav", 2, 50)
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_other_columns_are_kept_under_their_own_names(tmp_path):
    one, other = read_list(write(tmp_path, "path,Load_kW,operator,label", "a.wav,4.5,Ann,normal", "b.wav,,,abnormal"))
    assert one.identity.columns == (("Load_kW", "4.5"), ("operator", "Ann"))
    assert other.identity.columns == (("Load_kW", ""), ("operator", ""))


def test_lists_with_different_columns_are_one_frame(tmp_path):
    write(tmp_path, "path,load_kw", "a.wav,4.5", name="one.csv")
    write(tmp_path, "path,operator", "b.wav,Ann", name="other.csv")
    frame = mimii.find_recordings(lists=[tmp_path / "one.csv", tmp_path / "other.csv"]).to_pandas()
    assert frame.operator.tolist() == ["", "Ann"]
    assert frame.load_kw.dtype == float
    assert frame.load_kw[0] == 4.5
    assert math.isnan(frame.load_kw[1])


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2024-05-01T06:30:05", datetime(2024, 5, 1, 6, 30, 5, tzinfo=UTC)),
        ("2024-05-01T06:30:05Z", datetime(2024, 5, 1, 6, 30, 5, tzinfo=UTC)),
        ("2024-05-01T08:30:05.25+02:00", datetime(2024, 5, 1, 6, 30, 5, 250_000, tzinfo=UTC)),
        ("2024-05-01 06:30", datetime(2024, 5, 1, 6, 30, tzinfo=UTC)),
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("1969-12-31T23:59:59", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_time_is_iso_8601_of_utc_unless_it_says_more(tmp_path, cell, moment):
    path = write(tmp_path, "path,recorded_at", f"a.wav,{cell}", "b.wav,")
    one, other = read_list(path)
    assert one.identity.recorded_at == moment.timestamp()
    assert math.isnan(other.identity.recorded_at)
    frame = mimii.find_recordings(lists=path).to_pandas()
    assert frame.recorded_at[0].tz_localize("UTC") == moment
    assert frame.recorded_at.isna().tolist() == [False, True]


@pytest.mark.parametrize("cell", ["yesterday", "2024-13-01", "01.05.2024", "0001-01-01", "9999-01-01", "1714545005"])
def test_a_time_that_is_none_is_refused_with_its_line(tmp_path, cell):
    with pytest.raises(mimii.SourceError, match=r"list.csv, line 3: recorded_at must be a time in ISO 8601"):
        read_list(write(tmp_path, "path,recorded_at", "a.wav,2024-05-01", f"b.wav,{cell}"))


def test_domain_and_attributes_are_known_columns(tmp_path):
    one, other = read_list(write(tmp_path, "path,domain,attributes", "a.wav,Target,spd_28V", "b.wav,,"))
    assert (one.identity.domain, one.identity.attributes) == ("target", "spd_28V")
    assert (other.identity.domain, other.identity.attributes) == ("", "")
    assert one.identity.columns == ()
    with pytest.raises(mimii.SourceError, match="line 2: domain must be source, target or empty, not 'moon'"):
        read_list(write(tmp_path, "path,domain", "a.wav,moon"))


@pytest.mark.parametrize("name", sorted(RESERVED_COLUMNS - {"path"} - set(COLUMNS)))
def test_reserved_names_are_refused_by_name(tmp_path, name):
    with pytest.raises(mimii.SourceError, match=f"the column '{name.title()}' has a name that tables use themselves"):
        read_list(write(tmp_path, f"path,{name.title()}", "a.wav,1"))


@pytest.mark.parametrize("name", ["a/b", "a\\b", ".hidden", "__x"])
def test_names_that_no_column_can_have_are_refused(tmp_path, name):
    with pytest.raises(mimii.SourceError, match="has no name that a column can have"):
        read_list(write(tmp_path, f"path,{name}", "a.wav,1"))


def test_the_index_that_pandas_writes_is_no_column(tmp_path, caplog):
    first, _ = read_list(write(tmp_path, ",path,label", "0,a.wav,normal", "1,b.wav,normal"))
    assert first.identity.columns == ()
    assert "a column without a name is not used" in caplog.text


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", "2.5", "-3e2"], [1.0, 2.5, -300.0]),
        (["1", "x"], None),
        (["", ""], None),
        ([], None),
        (["1_000"], None),
        (["nan", "1"], None),
        (["inf"], None),
    ],
)
def test_a_column_is_of_numbers_where_all_are(texts, numbers):
    assert as_numbers(texts) == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_as_they_were_written(numbers):
    assert as_numbers([*map(repr, numbers), ""])[:-1] == numbers


def test_names_that_a_table_uses_are_reserved():
    assert set(SCHEMA) | {size for sizes, _ in SCHEMA.values() for size in sizes} <= RESERVED_COLUMNS


def test_a_member_that_an_archive_has_not_is_named(tmp_path):
    pack(tmp_path / "a.zip", {"there.wav": wav(1)})
    (tmp_path / "list.csv").write_text("path\na.zip/there.wav\na.zip/missing.wav\n")
    missing, there = mimii.find_recordings(lists=tmp_path / "list.csv")
    assert (missing.problem, there.problem) == ("cannot be read: no such recording in the archive", "")


def test_lists_that_do_not_agree_are_warned_of_and_the_last_one_counts(tmp_path, caplog):
    write_clip(tmp_path / "a.wav", 1)
    for name, label in (("one", "normal"), ("two", "abnormal"), ("three", "abnormal")):
        (tmp_path / f"{name}.csv").write_text(f"path,label\na.wav,{label}\n")
    [clip] = mimii.find_recordings(lists=[tmp_path / "one.csv", tmp_path / "two.csv"])
    assert clip.identity.label == 1
    assert f"recordings on which several lists do not agree: 1, such as {tmp_path}/a.wav" in caplog.text
    caplog.clear()
    assert len(mimii.find_recordings(lists=[tmp_path / "two.csv", tmp_path / "three.csv"])) == 1
    assert not caplog.text
