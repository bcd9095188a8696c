"""The steps that a clip goes through: the kernels of `mimii.features`, with the reason where one fails."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, groupby

from mimii import features
from mimii.features import (
    ClipResult,
    Input,
    OpenRecording,
    SampleBlocks,
    Task,
    group_by_recording,
    what_to_fetch,
)
from mimii.storage import ReadOptions, open_all


def open_clips(task: Task) -> Iterator[ClipResult]:
    """Yield the clips of a task, ready to be read; from S3 the next ones are fetched meanwhile."""
    left = [one for one in task.inputs if one.clip not in task.faults and not one.is_kept]
    ready = _ready(left, task.read_options)
    for one in task.inputs:
        fault = task.faults.get(one.clip)
        yield ClipResult(one, task, None if fault or one.is_kept else next(ready), fault)


def _ready(inputs: Sequence[Input], read_options: ReadOptions) -> Iterator[Callable[[], SampleBlocks]]:
    """Yield what reads each clip; recordings are open as long as there are clips of theirs."""
    groups = list(group_by_recording(inputs))
    wanted = [what_to_fetch(group) for group in groups]
    openers = open_all(chain.from_iterable(wanted), read_options)
    for group, fetched in zip(groups, wanted, strict=True):
        with closing(OpenRecording(group)) as recording:
            if len(fetched) == 1:
                opener = next(openers)
                yield from (partial(recording.read, one, opener) for one in group)
                del opener  # and with it what was fetched, before the next is waited for
            else:
                for _, clips in groupby(group, lambda one: one.segment):
                    opener = next(openers)
                    yield from (partial(recording.read, one, opener) for one in clips)
                    recording.close()
                    del opener


def load(clip: ClipResult) -> ClipResult:
    """Open the samples of a clip, block by block: decoding errors come with the blocks. See `mimii.features.load`."""
    return clip.then(lambda read: features.load(read, clip.input, clip.task.spec))


def mel_spectrogram(clip: ClipResult) -> ClipResult:
    """Compute the mel spectrogram of a clip, see `mimii.features.mel_spectrogram`."""
    return clip.then(lambda samples: features.mel_spectrogram(samples, clip.task.spec))


def power_to_db(clip: ClipResult) -> ClipResult:
    """Convert the mel spectrogram of a clip to dB, see `mimii.features.power_to_db`."""
    return clip.then(lambda mel: features.power_to_db(mel, clip.task.spec))


def compute_spectrograms(task: Task) -> Iterator[ClipResult]:
    """Yield the mel spectrogram of each clip of a task, in this process and without Dask."""
    return map(mel_spectrogram, map(load, open_clips(task)))
