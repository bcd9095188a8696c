"""Checks as pure functions: metadata and columns, which recording is which clip, the published counts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mimii.engine import digest_version
from mimii.recordings import Clip, Identity, identify, select
from mimii.storage import Place
from mimii.table import Layout, Sums, digest_column, no_sums
from mimii.verification.comparison import check_recordings, draw_sample
from mimii.verification.matching import match_clips
from mimii.verification.metadata import CHECKS, Checked, Finding, check_plan, check_statistics, merge
from mimii.verification.published import COUNTS, check_published, count_clips, note_published
from mimii.verification.shard_check import ShardReport

STRINGS = np.dtypes.StringDType()


def columns_of(paths, identities=None):
    who = identities or [identify(path) for path in paths]
    return {
        "path": np.array(paths, STRINGS),
        "machine_type": np.array([one.machine_type for one in who], STRINGS),
        "machine_id": np.array([one.machine_id for one in who], STRINGS),
        "number": np.array([one.number for one in who], np.int32),
        "snr_db": np.array([one.snr_db for one in who], np.float32),
        "label": np.array([one.label for one in who], np.int8),
    }


def found(*paths):
    return [Clip(path, Place(path), identify(path)) for path in paths]


def matched(paths, others):
    matches = match_clips(columns_of(paths), found(*others))
    return {paths[clip]: recording.path for clip, recording in matches.recordings.items()}, matches


def test_parts_of_a_check_add_up_in_the_order_of_the_checks():
    one, other = Finding("nan", "clip 1", "a"), Finding("nan", "clip 2", "b")
    merged = merge([Checked("nan", 3, (one,)), Checked("finished", 1), Checked("nan", 4, (other,))])
    assert list(merged.values()) == [Checked("finished", 1), Checked("nan", 7, (one, other))]
    assert list(CHECKS).index("finished") < list(CHECKS).index("nan")


def test_recordings_are_matched_by_their_path_first():
    paths = ["raw/a/1.wav", "raw/b/1.wav"]
    pairs, matches = matched(paths, paths[::-1])
    assert pairs == {path: path for path in paths}
    assert set(matches.ways.values()) == {"path"}


def test_a_relative_path_is_the_same_place_as_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, matches = matched(["raw/1.wav"], [f"{tmp_path}/raw/1.wav"])
    assert matches.ways == {0: "path"}


def test_recordings_that_were_moved_are_matched_by_the_longest_unique_end_of_the_path():
    paths = [f"old/{snr}_dB_fan/fan/id_00/normal/{number:08d}.wav" for snr in (0, 6) for number in range(3)]
    moved = [path.replace("old", "new/place") for path in paths]
    pairs, matches = matched(paths, moved)
    assert pairs == dict(zip(paths, moved, strict=True))
    assert set(matches.ways.values()) == {"end of path"}


def test_an_end_of_path_that_two_clips_have_is_no_match():
    paths = [f"old/{snr}_dB_fan/fan/id_00/normal/00000000.wav" for snr in (0, 6)]
    pairs, matches = matched(paths, ["new/fan/id_00/normal/00000000.wav"])
    assert pairs == {}
    assert matches.describe() == "0 of 2 clips have a recording"


def test_recordings_that_were_renamed_are_matched_by_identity():
    paths = [f"old/6_dB_fan.zip/fan/id_0{machine}/normal/00000007.wav" for machine in (0, 2)]
    others = [f"new/6_dB/fan/id_0{machine}/normal/7.wav" for machine in (2, 0)]
    pairs, matches = matched(paths, others)
    assert pairs == {paths[0]: others[1], paths[1]: others[0]}
    assert set(matches.ways.values()) == {"identity"}


def test_recordings_whose_known_properties_differ_do_not_match():
    assert matched(["old/6_dB_fan/fan/id_00/normal/1.wav"], ["new/0_dB_fan/fan/id_00/normal/1.wav"])[0] == {}


def test_a_recording_is_taken_once_and_only_where_it_can_be_read():
    paths = ["a/sound.wav", "b/other.wav"]
    usable, damaged = found("a/sound.wav", "x/other.wav")
    matches = match_clips(columns_of(paths), [usable, replace(damaged, problem="not audio")])
    assert dict(matches.recordings) == {0: usable}
    assert matches.describe() == "1 of 2 clips have a recording: 1 by path"


def test_the_sample_is_of_good_clips_with_a_match_and_the_same_for_a_seed():
    columns = {"status": np.array(["ok", "removed", "ok", "ok", "ok"], STRINGS), "n_rows": np.array([3, 3, 0, 3, 3])}
    assert draw_sample(columns, [4, 3, 1, 2, 0], 20, 0) == [0, 3, 4]
    assert draw_sample(columns, [4, 1], 20, 0) == [4]
    drawn = {tuple(draw_sample(columns, range(5), 1, seed)) for seed in range(20)}
    assert drawn == {(0,), (3,), (4,)}
    assert draw_sample(columns, range(5), 2, 7) == draw_sample(columns, range(5), 2, 7)


@pytest.mark.parametrize(
    ("change", "ways", "expected"),
    [
        ({}, "path", 0),
        ({"version": "other"}, "path", 1),
        ({"size": 9}, "path", 1),
        ({}, "end of path", 0),
        ({"version": "other"}, "end of path", None),
    ],
)
def test_a_record_is_stale_where_a_recording_changed_at_the_same_place(change, ways, expected):
    before = [Place("/a.wav", 10, "1"), Place("/b.wav", 20, "2")]
    now = [before[0], replace(before[1], **change)]
    matches = match_clips(columns_of(["/a.wav", "/b.wav"]), [Clip(place.url, place) for place in now])
    matches = replace(matches, ways=dict.fromkeys(matches.ways, ways))
    report = ShardReport(3, (), {}, dict(enumerate(map(digest_version, before))), "f00", "", 0)
    checked = check_recordings(report, [0, 1], matches)
    assert expected == (None if checked is None else len(checked.findings))
    assert checked is None or all(finding.shard == 3 for finding in checked.findings)


def test_without_a_recording_it_is_unknown_whether_a_record_is_stale():
    matches = match_clips(columns_of(["/a.wav", "/b.wav"]), found("/a.wav"))
    assert check_recordings(ShardReport(0, (), {}, {0: 1, 1: 2}, "f00", "", 0), [0, 1], matches) is None


def mimii(snrs=(6,), kinds=("fan",)):
    return [
        Identity(kind, number, 0, float(snr), label)
        for snr in snrs
        for (kind, number), counts in COUNTS.items()
        if kind in kinds
        for label, count in enumerate(counts)
        for _ in range(count)
    ]


def test_the_published_counts_are_18019_a_snr():
    assert sum(map(sum, COUNTS.values())) == 18_019
    assert {kind for kind, _ in COUNTS} == {"fan", "pump", "slider", "valve"}
    assert COUNTS["slider", "id_06"] == (534, 89)


def test_an_archive_with_all_clips_is_complete():
    who = mimii()
    counts = count_clips(columns_of([f"{index}.wav" for index in range(len(who))], who))
    checked = check_published(counts, select(["6_dB_fan"]))
    assert (checked.n, checked.findings) == (4, ())
    assert note_published(counts).endswith("4 are here, 4 of them with all recordings that are published")


def test_a_clip_that_is_missing_or_there_twice_is_found_with_its_machine():
    who = mimii()
    counts = count_clips(columns_of([f"{index}.wav" for index in range(len(who))], [who[0], *who[:-1]]))
    found = check_published(counts, select(["6_dB_fan"])).findings
    assert {finding.where: finding.problem for finding in found} == {
        "fan id_00 6 dB": "1012 normal and 407 abnormal recordings here, 1011 and 407 are published",
        "fan id_06 6 dB": "1015 normal and 360 abnormal recordings here, 1015 and 361 are published",
    }


def test_missing_machines_are_found():
    who = mimii()
    counts = count_clips(columns_of([f"{index}.wav" for index in range(len(who))], who))
    assert len(check_published(counts, select(["6_dB"])).findings) == 12
    assert len(check_published(counts, select(["all"])).findings) == 44


def test_other_machines_are_not_counted_as_those_of_mimii():
    own = [Identity("fan", "id_00", 1, math.nan, 0), Identity("press", "id_00", 1, 6.0, 0), Identity()]
    assert count_clips(columns_of(["1.wav", "2.wav", "3.wav"], own)) == {}
    assert note_published({}) == ""


def test_wrong_statistics_are_found_and_none_where_there_are_no_rows():
    rows = np.array([[1.0, -2.0], [3.0, -2.0], [5.0, 4.0]])
    sums = Sums(3, rows.sum(axis=0), (rows**2).sum(axis=0))
    right = {"feature_mean": rows.mean(axis=0), "feature_std": rows.std(axis=0)}
    assert not check_statistics(right, sums).findings
    [finding] = check_statistics(right | {"feature_std": rows.std(axis=0) + np.array([0, 2e-4])}, sums).findings
    assert (finding.where, "feature 1" in finding.problem) == ("feature_std", True)
    unknown = dict.fromkeys(right, np.full(2, np.nan))
    assert not check_statistics(unknown, no_sums(2)).findings
    assert len(check_statistics(unknown, sums).findings) == 2


def test_a_plan_that_does_not_add_up_is_found():
    columns = {
        "n_rows": np.array([3, 0, 4], np.int32),
        "first_row": np.array([0, 3, 3]),
        "status": np.array(["ok", "removed", "ok"], STRINGS),
    }
    layout = Layout(4, 2, 4)
    assert not check_plan(columns, layout, 7).findings
    assert [finding.where for finding in check_plan(columns, layout, 8).findings] == ["n_rows"]
    good = columns | {"status": np.array(["ok", "ok", "ok"], STRINGS)}
    assert [finding.clip for finding in check_plan(good, layout, 7).findings] == [1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1, 2], np.int8), np.array([2, 1], np.int8)),
        (np.array([0.0, np.nan]), np.array([0.0, 0.0])),
        (np.array(["ab", "c"], STRINGS), np.array(["a", "bc"], STRINGS)),
        (np.array(["ok", ""], STRINGS), np.array(["", "ok"], STRINGS)),
    ],
)
def test_the_digest_of_a_column_changes_with_any_value(one, other):
    assert digest_column(one) == digest_column(one.copy())
    assert digest_column(one) != digest_column(other)
