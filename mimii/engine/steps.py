"""The steps that a clip goes through: the kernels of `mimii.features`, with the reason where one fails."""

from collections.abc import Iterator

from mimii import features
from mimii.features import ClipResult, Task
from mimii.storage import open_all


def open_clips(task: Task) -> Iterator[ClipResult]:
    """Yield the clips of a task, ready to be opened; from S3 the next ones are fetched meanwhile."""
    left = [one.place for one in task.inputs if one.clip not in task.faults and not one.is_kept]
    openers = open_all(left, task.read_options)
    for one in task.inputs:
        fault = task.faults.get(one.clip)
        yield ClipResult(one, task, None if fault or one.is_kept else next(openers), fault)


def load(clip: ClipResult) -> ClipResult:
    """Load the samples of a clip, see `mimii.features.load`."""
    return clip.then(lambda opener: features.load(opener, clip.input.n_samples, clip.task.spec))


def mel_spectrogram(clip: ClipResult) -> ClipResult:
    """Compute the mel spectrogram of a clip, see `mimii.features.mel_spectrogram`."""
    return clip.then(lambda samples: features.mel_spectrogram(samples, clip.task.spec))


def power_to_db(clip: ClipResult) -> ClipResult:
    """Convert the mel spectrogram of a clip to dB, see `mimii.features.power_to_db`."""
    return clip.then(lambda mel: features.power_to_db(mel, clip.task.spec))


def compute_spectrograms(task: Task) -> Iterator[ClipResult]:
    """Yield the mel spectrogram of each clip of a task, in this process and without Dask."""
    return map(mel_spectrogram, map(load, open_clips(task)))
