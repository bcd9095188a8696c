"""What a detector learns from: normal clips of one machine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mimii.detection.pooling import Pooling
from mimii.detection.training import LearningError
from mimii.features import FloatArray

ReadRows = Callable[[Sequence[int], int], Iterable[FloatArray]]
"""From places of training clips and the number of an epoch to their rows, shuffled, some thousands at a time."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Normal clips of one machine.

    Attributes
    ----------
    pooling : Pooling
        Of the machine.
    statistics : ndarray of float32, shape (n_clips, 3, n_mels)
        dB: mean, standard deviation and maximum of each band.
    domains : tuple of str
        Of each clip: ``source``, ``target``, or empty.
    recordings : tuple of int
        Which recording each clip is of.
    windows : tuple of ndarray of float32, shape (n_windows, 2, n_mels), or None
        Mean and maximum of each band in the windows of some of the clips, None for the others.
    places : tuple of int
        Which training clips of the machine these are.
    read : callable
        What reads rows of training clips by place.

    """

    pooling: Pooling
    statistics: FloatArray
    domains: tuple[str, ...]
    recordings: tuple[int, ...]
    windows: tuple[FloatArray | None, ...]
    places: tuple[int, ...]
    read: ReadRows

    def select(self, chosen: Iterable[int]) -> "Examples":
        """Return some of the clips, by index here."""
        kept = list(chosen)
        return replace(
            self,
            statistics=self.statistics[kept],
            domains=tuple(self.domains[index] for index in kept),
            recordings=tuple(self.recordings[index] for index in kept),
            windows=tuple(self.windows[index] for index in kept),
            places=tuple(self.places[index] for index in kept),
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of normal clips, scaled; called with the number of an epoch, it yields some thousands at a time."""

    examples: Examples
    shift: FloatArray
    scale: FloatArray

    def __call__(self, epoch: int) -> Iterator[FloatArray]:
        """Yield all rows, the shards in another random order for each epoch; LearningError where there is none."""
        rows = None
        for rows in self.examples.read(self.examples.places, epoch):
            yield (rows - self.shift) / self.scale
        if rows is None:
            msg = "there is no row to train on"
            raise LearningError(msg)

    def by_domain(self) -> Iterator["Rows"]:
        """Yield the rows of the clips of each domain."""
        domains = np.array(self.examples.domains)
        for domain in np.unique(domains):
            yield replace(self, examples=self.examples.select(np.flatnonzero(domains == domain).tolist()))


def scale_of_rows(examples: Examples) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of each feature of the rows, from the statistics of the bands of clips."""
    mean, deviation, _ = np.moveaxis(examples.statistics.astype(np.float64), 1, 0)
    shift = mean.mean(axis=0)
    scale = np.sqrt(np.mean(deviation**2 + mean**2, axis=0) - shift**2)
    frames = examples.pooling.spec.frames
    return np.tile(shift, frames).astype(np.float32), np.tile(np.where(scale > 0, scale, 1), frames).astype(np.float32)
