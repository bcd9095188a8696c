"""Which clips can be used, which cannot, and why."""

import os

import numpy as np
import pytest

from mimii.features.decode import Header
from mimii.features.spec import FeatureSpec
from mimii.recordings.catalogue import commonest_sample_rate, make_catalogue
from mimii.recordings.clips import Clip
from mimii.recordings.headers import Probe, probe_clip
from mimii.recordings.sources import find_clips
from mimii.storage.places import Place
from mimii.storage.problems import unreadable
from tests.helpers.recordings import write_clip


def probe(rate=16_000, n_channels=8, n_samples=160_000):
    return Probe(Header(rate, n_channels, n_samples))


def catalogue_of(probes, spec=None):
    clips = [Clip(f"{index}.wav", Place(f"/data/{index}.wav")) for index in range(len(probes))]
    return make_catalogue(clips, probes, [""] * len(probes), spec or FeatureSpec())


def test_usable_clips_have_rows_and_no_problem():
    catalogue = catalogue_of([probe(n_samples=160_000), probe(n_samples=16_000), probe(n_samples=2048)])
    assert catalogue.problems == ("", "", "")
    assert catalogue.n_rows.tolist() == [309, 28, 1]
    assert catalogue.n_samples.tolist() == [160_000, 16_000, 2048]
    assert (catalogue.n_rows.dtype, catalogue.n_samples.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (probe(rate=44_100), "sample rate 44100 Hz, the others have 16000 Hz"),
        (probe(n_channels=3), "no channel 3: the recording has 3, counted from 0"),
        (probe(n_samples=0), "no samples"),
        (probe(n_samples=2047), "too short for one row: 2047 samples are 4 frames, a row takes 5"),
        (probe(n_samples=1), "too short for one row: 1 samples are 1 frames, a row takes 5"),
        (probe(n_samples=10**9), "too long: 17.4 hours are 476 MiB of mel spectrogram, and 128 fit; cut it in pieces"),
        (Probe(None, "empty file"), "empty file"),
    ],
)
def test_an_unusable_clip_has_a_reason_and_no_rows_and_keeps_its_place(bad, reason):
    catalogue = catalogue_of([probe(), bad, probe(n_samples=16_000)], FeatureSpec(channel=3))
    assert catalogue.problems == ("", reason, "")
    assert catalogue.n_rows.tolist() == [309, 0, 28]
    assert [clip.path for clip in catalogue.clips] == ["0.wav", "1.wav", "2.wav"]


def test_the_last_channel_can_be_used():
    assert catalogue_of([probe(n_channels=4)], FeatureSpec(channel=3)).problems == ("",)


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
    probes = [probe(rate=rate) if rate else Probe(None, "empty file") for rate in rates]
    assert commonest_sample_rate(probes) == commonest
    assert commonest_sample_rate(iter(probes)) == commonest


def test_a_probe_reads_the_header_of_a_clip(tmp_path):
    write_clip(tmp_path / "a.wav", 1, n_samples=777, n_channels=3, sample_rate=22_050)
    (clip,) = find_clips([str(tmp_path)])
    found = probe_clip(clip)
    assert found.problem == ""
    assert (found.header.sample_rate, found.header.n_channels, found.header.n_samples) == (22_050, 3, 777)


def test_a_probe_of_a_clip_with_a_problem_does_not_read_it(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    found = probe_clip(Clip("a.wav", Place(str(tmp_path / "a.wav")), problem="known to be bad"))
    assert found == Probe(None, "known to be bad")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"text\n" * 50, "not audio"), (None, "No such file")]
)
def test_a_probe_says_why_a_clip_cannot_be_read(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    found = probe_clip(Clip("a.wav", Place(str(path))))
    assert found.header is None
    assert reason in found.problem
    assert str(tmp_path) not in found.problem


def test_a_probe_of_a_folder_says_that_it_cannot_be_read(tmp_path):
    assert "cannot be read" in probe_clip(Clip("a", Place(str(tmp_path)))).problem


def test_an_error_is_described_without_the_path():
    error = PermissionError(13, os.strerror(13), "/secret/place.wav")
    assert unreadable(error) == "cannot be read: Permission denied"
    assert unreadable(OSError("bad sector")) == "cannot be read: bad sector"
