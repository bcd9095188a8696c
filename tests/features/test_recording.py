"""Clips of one recording: each segment is what librosa loads, decoded once for all channels, in bounded memory."""

import io
from dataclasses import replace
from functools import partial

import librosa
import numpy as np
import pytest
import soundfile

from mimii.features import (
    MIXED,
    Header,
    Input,
    OpenRecording,
    Segment,
    decode,
    group_by_recording,
    read_header,
    recording,
    sndfile,
    what_to_fetch,
)
from mimii.features.recording import NotAsPlannedError
from mimii.storage import AudioError, Member, Place, Wanted
from mimii.storage.places import MOST_WHOLE
from tests.helpers.odd_files import encoded, mp3, noise, samples_of
from tests.helpers.recordings import read_channel

RATE = 16_000
SOUGHT = [
    *(("WAV", kind) for kind in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW")),
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16")),
    *(("AU", "PCM_16"), ("CAF", "PCM_16")),
]
FORWARD = [("OGG", "VORBIS"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("MP3", "MPEG_LAYER_III")]
CUTS = [(0, 4000), (4000, 4000), (7000, 5000), (12_000, 3210)]


def sound_of(kind, n_samples=15_210, seed=0):
    return (
        mp3(samples_of(noise(seed, n_samples)))
        if kind[0] == "MP3"
        else encoded(samples_of(noise(seed, n_samples)), *kind)
    )


def long_sound_of(kind):
    """Write 150 s in blocks: of more at once, libsndfile's encoder of Vorbis overflows its stack."""
    samples = samples_of(noise(5, 150 * RATE))
    if kind[0] == "MP3":
        return mp3(samples)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, kind[1], format=kind[0]) as sound:
        for start in range(0, len(samples), RATE):
            sound.write(samples[start : start + RATE])
    return file.getvalue()


def inputs_of(data, cuts, channels=(0,), header=None):
    header = header or read_header(io.BytesIO(data))
    place = Place("/data/a.wav", len(data))
    parts = [(channel, Segment(*cut)) for cut in cuts for channel in channels]
    return [Input(clip, place, header, channel, segment) for clip, (channel, segment) in enumerate(parts)]


def read_all(data, inputs):
    """Read clips one after the other; return the samples of each, and how often the file was opened."""
    opened = []

    def opener():
        opened.append(io.BytesIO(data))
        return opened[-1]

    together = OpenRecording(inputs)
    found = []
    for one in inputs:
        samples = together.read(one, opener)
        found.append(np.concatenate(list(samples.blocks)))
        assert len(found[-1]) == samples.n_samples == one.segment.n_samples
    together.close()
    assert all(file.closed for file in opened)
    return found, len(opened)


@pytest.mark.parametrize("kind", SOUGHT, ids="-".join)
def test_segments_are_sought_and_are_what_librosa_loads(tmp_path, kind, monkeypatch):
    data = sound_of(kind)
    path = tmp_path / f"a.{kind[0].lower()}"
    path.write_bytes(data)
    decoded = []
    read_frames = decode.read_frames
    monkeypatch.setattr(decode, "read_frames", lambda *how: (decoded.append(len(x)) or x for x in read_frames(*how)))
    found, n_opened = read_all(data, inputs_of(data, CUTS))
    assert n_opened == 1
    for samples, (start, count) in zip(found, CUTS, strict=True):
        loaded, _ = librosa.load(path, sr=None, mono=False, offset=start / RATE, duration=count / RATE)
        np.testing.assert_array_equal(samples, np.atleast_2d(loaded)[0])
    if kind not in (("WAV", "PCM_16"), ("RF64", "PCM_16")):
        assert decoded  # by libsndfile


@pytest.mark.parametrize("kind", FORWARD, ids="-".join)
def test_others_are_decoded_forward_once(kind, monkeypatch):
    data = sound_of(kind)
    whole = read_channel(io.BytesIO(data), 0)[1]
    begun = []
    open_sound = sndfile.open_sound
    for module in (sndfile, decode):
        monkeypatch.setattr(module, "open_sound", lambda file: begun.append(1) or open_sound(file))
    inputs = inputs_of(data, CUTS)
    assert not inputs[0].header.can_seek
    n_headers = len(begun)
    found, n_opened = read_all(data, inputs)
    for samples, (start, count) in zip(found, CUTS, strict=True):
        np.testing.assert_array_equal(samples, whole[start : start + count])
    assert (n_opened, len(begun) - n_headers) == (1, 2)  # its header, and the sound


@pytest.mark.parametrize("kind", FORWARD, ids="-".join)
def test_segments_of_a_long_recording_are_decoded_while_nothing_else_reads_the_file(kind):
    data = long_sound_of(kind)
    whole = read_channel(io.BytesIO(data), 0)[1]
    cuts = [(start, 10 * RATE) for start in range(0, 150 * RATE, 10 * RATE)]
    for samples, (start, count) in zip(read_all(data, inputs_of(data, cuts))[0], cuts, strict=True):
        np.testing.assert_array_equal(samples, whole[start : start + count])


def test_a_recording_with_other_channels_than_planned_is_not_as_planned():
    data = sound_of(("WAV", "PCM_16"), n_samples=5000)
    planned = read_header(io.BytesIO(data))
    other = Header(planned.sample_rate, planned.n_channels + 1, planned.n_samples)
    with pytest.raises(NotAsPlannedError, match="and 5000 samples of"):
        read_all(data, inputs_of(data, [(0, 5000)], header=other))


def test_a_segment_before_the_last_one_is_decoded_from_the_beginning_again():
    data = sound_of(("OGG", "VORBIS"))
    whole = read_channel(io.BytesIO(data), 0)[1]
    cuts = [(9000, 100), (10, 50)]
    for samples, (start, count) in zip(read_all(data, inputs_of(data, cuts))[0], cuts, strict=True):
        np.testing.assert_array_equal(samples, whole[start : start + count])


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")], ids="-".join)
def test_all_channels_of_a_segment_are_decoded_together(kind, monkeypatch):
    rng = np.random.default_rng(1)
    pcm = rng.integers(-9000, 9000, (9000, 3)) / 32768
    data = encoded(pcm, *kind)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    asked = []
    read_blocks = recording.read_blocks
    monkeypatch.setattr(decode, "read_blocks", lambda *how: asked.append(how[2]) or read_blocks(*how))
    monkeypatch.setattr(recording, "read_blocks", decode.read_blocks)
    cuts = [(0, 5000), (5000, 4000)]
    found, _ = read_all(data, inputs_of(data, cuts, (0, 1, 2)))
    for index, (start, count) in enumerate(cuts):
        for channel in range(3):
            np.testing.assert_array_equal(found[3 * index + channel], expected[start : start + count, channel])
    assert asked == ([[0, 1, 2]] * 2 if kind[0] != "OGG" else [[0, 1, 2]])


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24")], ids="-".join)
def test_the_mean_of_all_channels_is_librosas(tmp_path, kind):
    rng = np.random.default_rng(2)
    data = encoded(rng.integers(-9000, 9000, (5000, 5)) / 32768, *kind)
    (tmp_path / "a").write_bytes(data)
    [found], _ = read_all(data, inputs_of(data, [(0, 5000)], (MIXED,)))
    np.testing.assert_allclose(found, librosa.load(tmp_path / "a", sr=None)[0], rtol=0, atol=1e-7)


def test_channels_that_would_fill_the_memory_are_streamed_one_by_one(monkeypatch):
    monkeypatch.setattr(recording, "_MOST_TOGETHER", 9000)
    rng = np.random.default_rng(3)
    data = encoded(rng.integers(-9000, 9000, (5000, 2)) / 32768, "WAV", "PCM_16")
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    found, n_opened = read_all(data, inputs_of(data, [(0, 5000)], (0, 1)))
    np.testing.assert_array_equal(np.stack(found, axis=1), expected)
    assert n_opened == 2


def test_a_channel_with_nan_is_bad_and_the_others_are_not():
    samples = np.zeros((1000, 2), np.float32)
    samples[500, 1] = np.nan
    data = encoded(samples, "WAV", "FLOAT")
    inputs = inputs_of(data, [(0, 1000)], (0, 1))
    together = OpenRecording(inputs)
    opener = partial(io.BytesIO, data)
    assert len(next(iter(together.read(inputs[0], opener).blocks))) == 1000
    with pytest.raises(AudioError, match="NaN"):
        together.read(inputs[1], opener)


def test_a_flac_that_cannot_be_sought_is_decoded_from_its_beginning(monkeypatch):
    def fail(*_):
        raise soundfile.LibsndfileError(39)

    data = sound_of(("FLAC", "PCM_16"))
    whole = read_channel(io.BytesIO(data), 0)[1]
    monkeypatch.setattr(soundfile.SoundFile, "seek", fail)
    found, _ = read_all(data, inputs_of(data, CUTS))
    for samples, (start, count) in zip(found, CUTS, strict=True):
        np.testing.assert_array_equal(samples, whole[start : start + count])


def test_segments_in_front_of_damage_are_good_and_those_behind_are_not():
    whole = encoded(samples_of(noise(5, 10 * RATE)), "FLAC", "PCM_16")
    n_good = len(whole) * 3 // 5
    damaged = whole[:n_good] + bytes(len(whole) - n_good)
    inflated = Place("/data/a.zip", MOST_WHOLE + 1, member=Member("a.flac", 0, len(whole), len(whole), 0, 8))
    cuts = [(start * RATE, 2 * RATE) for start in (0, 2, 4, 6, 8)]
    inputs = [replace(one, place=inflated) for one in inputs_of(damaged, cuts)]
    together, opener, found = OpenRecording(inputs), partial(io.BytesIO, damaged), []
    for one in inputs:
        try:
            found.append(np.concatenate(list(together.read(one, opener).blocks)))
        except AudioError as error:
            found.append(str(error))
    together.close()
    for samples, want in zip(found[:2], read_all(whole, inputs_of(whole, cuts[:2]))[0], strict=True):
        np.testing.assert_array_equal(samples, want)
    assert all("damaged" in str(reason) for reason in found[3:])


def test_a_segment_beyond_the_end_is_refused():
    data = sound_of(("WAV", "PCM_16"), n_samples=5000)
    header = Header(RATE, 2, 9000, 44, 44, 4)
    with pytest.raises(
        AudioError, match=r"it has 5000 samples of .* and 9000 samples of \d channels? at 16000 Hz were expected"
    ):
        read_all(data, inputs_of(data, [(4000, 4000)], header=header))


def test_what_is_fetched_of_an_object_are_the_bytes_of_its_segments():
    header = Header(RATE, 2, 100_000, 44, 44, 4)
    far = Place("s3://bucket/a.wav", 400_044)
    inputs = [Input(0, far, header, channel, Segment(*cut)) for cut in [(0, 100), (500, 100)] for channel in (0, 1)]
    assert what_to_fetch(inputs) == [Wanted(far, 44, 444), Wanted(far, 2044, 2444)]
    near, packed = Place("/data/a.wav", 400_044), Place("s3://b/a.zip", 400_044, "", Member("a.wav", 9, 99, 66, 1, 8))
    compressed = Header(RATE, 2, 100_000)
    for place, known in ((near, header), (packed, header), (far, compressed)):
        some = [Input(0, place, known, 0, Segment(*cut)) for cut in [(0, 100), (500, 100)]]
        assert what_to_fetch(some) == [Wanted(place)]
    assert what_to_fetch([Input(0, far, header, 0, Segment(0, 100_000))]) == [Wanted(far)]


def test_clips_are_grouped_by_recording_as_they_come():
    header, places = Header(RATE, 1, 10), [Place("a"), Place("a"), Place("b"), Place("a")]
    inputs = [Input(clip, place, header, 0, Segment(0, 10)) for clip, place in enumerate(places)]
    assert [[one.clip for one in group] for group in group_by_recording(inputs)] == [[0, 1], [2], [3]]
