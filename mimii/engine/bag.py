"""The work as a Dask bag. A partition is a task: a shard, some images, a machine. Its elements are the task's clips.

    tasks -> open the clips of each -> load -> mel_spectrogram -> power_to_db -> write one partition

Dask fuses what is mapped one after the other into one task for each partition. Inside it everything is lazy: a clip
goes through all steps before the next one is loaded, so a partition's samples are never in memory all at once.
"""

from collections.abc import Callable, Iterable
from typing import Any

from dask.bag import Bag

from mimii.engine.steps import load, mel_spectrogram, open_clips, power_to_db
from mimii.features import ClipResult

Write = Callable[[Iterable[ClipResult]], Iterable[Any]]
"""What takes the clips of one partition, as they come, and returns a list of one result."""


def clips_to_partitions(tasks: Bag, write: Write) -> Bag:
    """Map load, mel and dB over the clips of each task; `write` takes what comes of a partition."""
    results: Bag = spectrograms(tasks).map(power_to_db).map_partitions(write)
    return results


def windows_to_partitions(tasks: Bag, cut: Callable[[ClipResult], list[ClipResult]], write: Write) -> Bag:
    """Do the same with windows of each clip, which `cut` makes of its mel spectrogram."""
    results: Bag = spectrograms(tasks).map(cut).flatten().map(power_to_db).map_partitions(write)
    return results


def tasks_to_results(tasks: Bag, function: Callable[[Any], Any]) -> Bag:
    """Map one function over tasks whose elements are no recordings, such as shards to be checked."""
    results: Bag = tasks.map(function)
    return results


def spectrograms(tasks: Bag) -> Bag:
    """Map load and mel over the clips of each task."""
    results: Bag = tasks.map(open_clips).flatten().map(load).map(mel_spectrogram)
    return results
