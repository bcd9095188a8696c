"""A clip on its way: its samples as planned or a reason; a clip that failed stays failed, and S3 is never its fault."""

import dataclasses
import io
from functools import partial

import numpy as np
import pytest
import soundfile

from mimii.features import ClipResult, ClipTask, Fault, FeatureSpec, Header, Input, OpenRecording, Segment, load
from mimii.recordings import wav_bytes
from mimii.storage import DEFAULT_READS, AudioError, Place, StorageError
from tests.helpers.recordings import noise

SPEC = FeatureSpec(channel=1)


class Watched(io.BytesIO):
    """A file that remembers how far and how much it was read, also when it is closed."""

    farthest = n_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.farthest, self.n_read = max(self.farthest, self.tell()), self.n_read + len(data)
        return data


def opened(samples, spec=SPEC, n_samples=None, sample_rate=16_000, data=None):
    file = Watched(wav_bytes(samples, sample_rate) if data is None else data)
    planned = Header(16_000, samples.shape[1], len(samples) if n_samples is None else n_samples)
    one = Input(0, Place("/data/a.wav"), planned, spec.channel, Segment(0, planned.n_samples))
    return file, lambda: load(partial(OpenRecording([one]).read, one, lambda: file), one, spec)


def test_samples_are_those_of_the_channel():
    file, run = opened(noise(1, 5000, 3))
    samples = run()
    assert samples.n_samples == 5000
    found = np.concatenate(list(samples.blocks))
    np.testing.assert_array_equal(found, noise(1, 5000, 3)[:, 1] / np.float32(32768))
    assert file.closed


def test_nothing_is_read_before_it_is_asked_for_and_the_file_is_read_to_its_end():
    data = wav_bytes(noise(1, 50_000, 2)) + b"JUNK" + (20_000).to_bytes(4, "little") + bytes(20_000)
    file, run = opened(noise(1, 50_000, 2), data=data)
    samples = run()
    assert file.n_read < 1000
    assert not file.closed
    list(samples.blocks)
    assert file.farthest == len(data)  # where the checksum of an archive's member is compared


def test_a_long_recording_comes_in_blocks():
    samples = opened(noise(2, 5 << 19, 2))[1]()
    assert [len(block) for block in samples.blocks] == [1 << 20, 1 << 20, 1 << 19]


@pytest.mark.parametrize(
    ("n_samples", "sample_rate", "found"),
    [
        (4000, 16_000, "at 16000 Hz"),
        (5001, 16_000, "at 16000 Hz"),
        (5000, 8000, "at 8000 Hz"),
    ],
)
def test_a_recording_that_is_not_as_planned_is_refused_with_both(n_samples, sample_rate, found):
    file, run = opened(noise(1, 5000, 2), n_samples=n_samples, sample_rate=sample_rate)
    planned = f"and {n_samples} samples of 2 channels at 16000 Hz were expected"
    with pytest.raises(AudioError, match=f"it has 5000 samples of 2 channels {found}, {planned}"):
        run()
    assert file.closed


def test_what_is_not_audio_is_refused_and_closed():
    file, run = opened(noise(1, 50), data=b"no sound" * 100)
    with pytest.raises(AudioError, match="not audio"):
        run()
    assert file.closed


def test_a_reason_may_come_with_a_block():
    sound = io.BytesIO()
    soundfile.write(sound, np.full((5000, 2), np.nan), 16_000, format="WAV", subtype="FLOAT")
    file, run = opened(noise(1, 5000, 2), data=sound.getvalue())
    samples = run()
    with pytest.raises(AudioError):
        list(samples.blocks)
    assert file.closed
    with pytest.raises(AudioError, match="no channel 1"):
        list(opened(noise(1, 5000, 1))[1]().blocks)


@pytest.fixture
def clip():
    one = Input(3, Place("/data/secret place.wav"), Header(16_000, 2, 5000), 1, Segment(0, 5000))
    return ClipResult(one, ClipTask((one,), DEFAULT_READS, SPEC), value=20)


def failing(error):
    def step(_value):
        raise error

    return step


def test_a_step_changes_the_value_alone(clip):
    done = clip.then(lambda value: value + 1).then(str)
    assert done == dataclasses.replace(clip, value="21")
    assert clip.value == 20


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (AudioError("truncated"), Fault("truncated")),
        (PermissionError(13, "Permission denied", "/data/x"), Fault("cannot be read: Permission denied", unread=True)),
        (OSError("bad sector"), Fault("cannot be read: bad sector", unread=True)),
        (MemoryError(), Fault("not enough memory for it", unread=True)),
    ],
    ids=["audio", "file", "disk", "memory"],
)
def test_a_step_that_fails_leaves_the_reason_and_whether_to_try_again(clip, error, fault):
    assert clip.then(failing(error)) == dataclasses.replace(clip, value=None, fault=fault)


def test_a_clip_that_failed_takes_no_more_steps(clip):
    failed = clip.then(failing(AudioError("truncated")))
    assert failed.then(failing(AssertionError("it is not called"))) is failed


def test_where_s3_cannot_be_used_the_clip_is_not_to_blame(clip):
    assert issubclass(StorageError, OSError)
    with pytest.raises(StorageError, match="no answer"):
        clip.then(failing(StorageError("no answer")))


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), KeyboardInterrupt()], ids=repr)
def test_errors_of_the_program_are_not_taken_for_bad_clips(clip, error):
    with pytest.raises(type(error)):
        clip.then(failing(error))
