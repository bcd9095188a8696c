"""Which clips can be used, which cannot, and why."""

import dataclasses

import numpy as np
import pytest

from mimii.features.decode import Header
from mimii.features.spec import FeatureSpec
from mimii.recordings.catalogue import commonest_sample_rate, make_catalogue
from mimii.recordings.clips import Clip
from mimii.storage.places import Place


def clip(rate=16_000, n_channels=8, n_samples=160_000):
    return Clip("", Place(""), header=Header(rate, n_channels, n_samples))


def bad_clip(problem):
    return Clip("", Place(""), problem=problem)


def catalogue_of(clips, spec=None):
    clips = [
        dataclasses.replace(one, path=f"{index}.wav", place=Place(f"/data/{index}.wav"))
        for index, one in enumerate(clips)
    ]
    return make_catalogue(clips, [""] * len(clips), spec or FeatureSpec())


def test_usable_clips_have_rows_and_no_problem():
    catalogue = catalogue_of([clip(n_samples=160_000), clip(n_samples=16_000), clip(n_samples=2048)])
    assert catalogue.problems == ("", "", "")
    assert catalogue.n_rows.tolist() == [309, 28, 1]
    assert catalogue.n_samples.tolist() == [160_000, 16_000, 2048]
    assert (catalogue.n_rows.dtype, catalogue.n_samples.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (clip(rate=44_100), "its sample rate is 44100 Hz, and the features are for 16000 Hz; --sample-rate resamples"),
        (clip(n_channels=3), "no channel 3: the recording has 3, counted from 0"),
        (clip(n_samples=0), "no samples"),
        (clip(n_samples=2047), "too short: 4 of the 5 frames that a row takes, from 2,047 samples"),
        (clip(n_samples=1), "too short: 1 of the 5 frames that a row takes, from 1 sample"),
        (
            clip(n_samples=10**9),
            "too long: 17.4 hours are 476 MiB of mel spectrogram, and 128 fit; --segment 10 makes more clips of it",
        ),
        (bad_clip("empty file"), "empty file"),
        (Clip("", Place("")), "its header was not read"),
    ],
)
def test_an_unusable_clip_has_a_reason_and_no_rows_and_keeps_its_place(bad, reason):
    catalogue = catalogue_of([clip(), bad, clip(n_samples=16_000)], FeatureSpec(channel=3))
    assert catalogue.problems == ("", reason, "")
    assert catalogue.n_rows.tolist() == [309, 0, 28]
    assert [clip.path for clip in catalogue.clips] == ["0.wav", "1.wav", "2.wav"]


def test_the_last_channel_can_be_used():
    assert catalogue_of([clip(n_channels=4)], FeatureSpec(channel=3)).problems == ("",)


def test_clips_and_splits_are_as_many():
    with pytest.raises(ValueError, match="zip"):
        make_catalogue([clip(), clip()], ["train"], FeatureSpec())


def test_a_catalogue_is_remote_where_a_recording_is():
    near, far = clip(), dataclasses.replace(clip(), place=Place("s3://bucket/a.wav"))
    assert not make_catalogue([near, near], ["", ""], FeatureSpec()).is_remote
    assert make_catalogue([near, far], ["", ""], FeatureSpec()).is_remote


def test_a_catalogue_of_no_clips_is_possible():
    catalogue = catalogue_of([])
    assert (catalogue.clips, catalogue.n_rows.shape) == ((), (0,))


@pytest.mark.parametrize(
    ("rates", "commonest"),
    [
        ([16_000, 44_100, 16_000], 16_000),
        ([16_000, 44_100], 44_100),
        ([44_100, 16_000], 44_100),
        ([8000, None, None, None], 8000),
        ([None], None),
        ([], None),
    ],
)
def test_the_table_has_the_rate_of_most_clips_and_the_higher_of_two(rates, commonest):
    clips = [clip(rate=rate) if rate else bad_clip("empty file") for rate in rates]
    assert commonest_sample_rate(clips) == commonest
    assert commonest_sample_rate(iter(clips)) == commonest
