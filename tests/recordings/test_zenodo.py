"""The archives of MIMII, by name."""

import re

import pytest

from mimii.recordings.zenodo import ARCHIVES, NameOfArchiveError, archive_url, select


def names(*wanted):
    return [archive.name for archive in select(wanted)]


def test_there_are_twelve_with_different_checksums():
    assert len(ARCHIVES) == len({archive.name for archive in ARCHIVES}) == 12
    assert len({archive.md5 for archive in ARCHIVES}) == 12
    assert all(re.fullmatch(r"[0-9a-f]{32}", archive.md5) for archive in ARCHIVES)


def test_the_known_sizes_and_checksums_belong_together():
    known = {archive.name: (archive.size, archive.md5) for archive in ARCHIVES}
    assert known["6_dB_fan"] == (10158673161, "0890f7d3c2fd8448634e69ff1d66dd47")
    assert known["-6_dB_pump"] == (8236951723, "d20b783a0ff9c93d58f452f98c37b112")
    assert known["0_dB_slider"] == (None, "4d674c21474f0646ecd75546db6c0c4e")


@pytest.mark.parametrize("name", ["6_dB_fan", "6_db_FAN", "+6_dB_fan", "6dB_fan", "6_dB_fan.zip"])
def test_one_archive_has_several_spellings(name):
    assert names(name) == ["6_dB_fan"]


@pytest.mark.parametrize("name", ["-6_dB_valve", "min6_dB_valve", "min6dB_valve", "minus_6_dB_valve"])
def test_minus_has_several_spellings(name):
    assert names(name) == ["-6_dB_valve"]


def test_all_of_an_snr_or_a_machine_or_everything():
    assert names("0_dB") == ["0_dB_fan", "0_dB_pump", "0_dB_slider", "0_dB_valve"]
    assert names("-6_dB") == ["-6_dB_fan", "-6_dB_pump", "-6_dB_slider", "-6_dB_valve"]
    assert names("pump") == ["-6_dB_pump", "0_dB_pump", "6_dB_pump"]
    assert names("all") == [archive.name for archive in ARCHIVES]


def test_each_is_chosen_once_and_in_the_same_order():
    assert names("valve", "6_dB", "6_dB_valve") == names("6_dB", "valve")
    assert len(names("valve", "6_dB")) == 6


@pytest.mark.parametrize("name", ["5_dB_fan", "fans", "6_dB_van", "", "dB", "6_dB_fan.tar"])
def test_another_name_is_refused_with_what_there_is(name):
    with pytest.raises(NameOfArchiveError, match=r"no such archive.*6_dB_fan.*slider.*all"):
        select(["6_dB_fan", name])


def test_what_may_have_been_meant_is_named():
    with pytest.raises(NameOfArchiveError, match=r"did you mean fan\?"):
        select(["fans"])


def test_urls():
    [archive] = select(["-6_dB_fan"])
    assert archive_url(archive) == "https://zenodo.org/records/3384388/files/-6_dB_fan.zip"
    assert archive_url(archive, "http://mirror/mimii/") == "http://mirror/mimii/-6_dB_fan.zip"
