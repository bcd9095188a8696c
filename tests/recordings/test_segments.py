"""Recordings to clips: segments cover what there is, as librosa cuts it; each channel is a clip where that is asked."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimii.features import FeatureSpec, Header, Segment, n_rows
from mimii.recordings import (
    Clip,
    Identity,
    clip_name,
    cut_recordings,
    image_names,
    make_catalogue,
    seconds,
    split_clips,
)
from mimii.storage import Place

RATE = 16_000


def recording(n_samples, name="a", n_channels=2, rate=RATE, **how):
    header = Header(rate, n_channels, n_samples)
    return Clip(f"{name}.wav", Place(f"/data/{name}.wav"), Identity("fan", name, 3, label=0), header=header, **how)


def cut(n_samples, **how):
    spec = FeatureSpec(**how)
    clips, rests = cut_recordings([recording(n_samples)], spec)
    return [(clip.channel, *clip.segment) for clip in clips], rests


@settings(max_examples=300)
@given(
    n_samples=st.integers(1, 200_000),
    segment=st.floats(0.2, 5),
    share=st.floats(0, 0.9),
    rate=st.sampled_from([8000, 11_025, 16_000, 44_100]),
)
@example(n_samples=53_967, segment=3.37299613830035, share=0.0, rate=8000)
def test_segments_are_librosas_and_leave_nothing_out_but_rests_without_a_row(n_samples, segment, share, rate):
    overlap = segment * share
    spec = FeatureSpec(sample_rate=rate, segment=segment, overlap=overlap, n_fft=512, hop_length=128)
    clips, rests = cut_recordings([recording(n_samples, rate=rate)], spec)
    length, step = int(segment * rate), segment - overlap
    for index, clip in enumerate(clips):
        assert clip.segment.start == int(index * step * rate) == int(clip.start_s * rate)
        assert clip.segment.n_samples == min(length, n_samples - clip.segment.start) == int(clip.duration_s * rate)
    end = sum(clips[-1].segment)
    left = n_samples - max(end, int(len(clips) * step * rate)) if end < n_samples else 0
    assert rests.n_left_out == (left > 0)
    assert rests.left_out_s <= (length / rate if left else 0)
    assert rests.n_shorter == (clips[-1].segment.n_samples < length)
    if left:
        rest = Segment(int(len(clips) * step * rate), n_samples - int(len(clips) * step * rate))
        assert n_rows(rest.n_samples, spec) == 0
    assert all(n_rows(clip.segment.n_samples, spec) for clip in clips[1:])
    assert sum(clips[-1].segment) > sum(clips[-2].segment) if len(clips) > 1 else True  # none lies within another


def test_a_recording_of_whole_segments_has_no_rest():
    assert cut(3 * RATE, segment=1.0) == (
        [(0, 0, RATE), (0, RATE, RATE), (0, 2 * RATE, RATE)],
        cut(1, segment=9.0)[1].__class__(),
    )
    clips, rests = cut(3 * RATE + 8000, segment=1.0)
    assert (clips[-1], rests.n_shorter, rests.n_left_out) == ((0, 3 * RATE, 8000), 1, 0)
    clips, rests = cut(3 * RATE + 1000, segment=1.0)
    assert (clips[-1], rests.n_shorter, rests.n_left_out, rests.left_out_s) == ((0, 2 * RATE, RATE), 0, 1, 1000 / RATE)


def test_a_short_recording_stays_one_clip_and_is_bad_where_it_has_no_row():
    clips, rests = cut(1000, segment=1.0)
    assert (clips, rests.n_shorter) == ([(0, 0, 1000)], 1)
    catalogue = make_catalogue([recording(1000)], [""], FeatureSpec(segment=1.0))
    assert "too short: " in catalogue.problems[0]


def test_channels_come_side_by_side_within_a_segment():
    clips, _ = cut(2 * RATE, segment=1.0, channel="all")
    assert clips == [(channel, start, RATE) for start in (0, RATE) for channel in (0, 1)]
    assert cut(RATE, channel="mean")[0] == [(-1, 0, RATE)]
    assert cut(RATE, channel=1)[0] == [(1, 0, RATE)]


def test_recordings_with_few_channels_are_no_error_where_all_are_clips():
    few, many = recording(RATE, "few", 1), recording(RATE, "many", 3)
    catalogue = make_catalogue([few, many], ["", ""], FeatureSpec(channel="all"))
    assert [clip.channel for clip in catalogue.clips] == [0, 0, 1, 2]
    assert not any(catalogue.problems)
    one = make_catalogue([few, many], ["", ""], FeatureSpec(channel=1))
    assert one.problems == ("no channel 1: the recording has 1, counted from 0", "")


@pytest.mark.parametrize("channel", [0, 3, "mean", "all"])
def test_what_cannot_be_read_is_one_clip_with_the_reason(channel):
    bad = Clip("bad.wav", Place("/data/bad.wav"), problem="not audio")
    [clip], _ = cut_recordings([bad], FeatureSpec(channel=channel, segment=1.0))
    assert (clip.problem, clip.segment, clip.start_s) == ("not audio", None, 0.0)
    assert math.isnan(clip.duration_s)


def test_all_clips_of_a_recording_have_its_split():
    recordings = [recording(3 * RATE, f"id_{number:02d}") for number in range(40)]
    clips, _ = cut_recordings(recordings, FeatureSpec(segment=1.0, channel="all"))
    splits = split_clips(clips, "stratified", 0.5)
    by_recording = {clip.path: set() for clip in clips}
    for clip, split in zip(clips, splits, strict=True):
        by_recording[clip.path].add(split)
    assert all(len(of_one) == 1 for of_one in by_recording.values())
    assert len({next(iter(of_one)) for of_one in by_recording.values()}) == 2
    assert [next(iter(by_recording[one.path])) for one in recordings] == split_clips(recordings, "stratified", 0.5)


def test_names_say_which_part_of_a_recording_a_clip_is():
    spec = FeatureSpec(channel="all", segment=0.5, overlap=0.25)
    clips, _ = cut_recordings([recording(RATE)], spec)
    names = [clip_name(clip, spec) for clip in clips]
    assert names[:3] == ["a.wav, channel 0, from 0 s", "a.wav, channel 1, from 0 s", "a.wav, channel 0, from 0.25 s"]
    images = image_names(clips, [""] * len(clips), spec)
    assert len(set(images)) == len(clips)
    assert images[2].endswith("-ch0-at0.25s")
    assert clip_name(clips[3], FeatureSpec()) == "a.wav"


@given(n_samples=st.integers(0, 10**10), rate=st.integers(1, 200_000))
def test_seconds_lead_back_to_the_sample(n_samples, rate):
    assert int(seconds(n_samples, rate) * rate) == n_samples
