"""Train a model of a machine's normal sound on blocks of rows; each kind of detector does it in its own module."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mimii.detection.kinds import KINDS, load_kind
from mimii.features import FloatArray

Blocks = Callable[[int], Iterable[FloatArray]]
"""From the number of an epoch to the training rows, shuffled, some thousands at a time."""


class LearningError(ValueError):
    """There are no training rows, or there is no such kind of detector."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a detector is trained.

    Attributes
    ----------
    kind : str
        One of `mimii.detection.KINDS`.
    epochs : int
        How often an autoencoder sees all rows; the other kinds see them once.
    seed : int
        Of initial weights, order of rows, and random choice of rows.
    normalize : bool
        Whether features are scaled to mean 0 and standard deviation 1 first.

    """

    kind: str = "autoencoder"
    epochs: int = 50
    seed: int = 0
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"there is no kind of detector {self.kind!r}; there are {', '.join(KINDS)}"
            raise LearningError(msg)
        if self.epochs < 1 or self.seed < 0:
            msg = f"epochs must be at least 1 and seed at least 0, not {self.epochs} and {self.seed}"
            raise LearningError(msg)


def train(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Return the arrays of a detector, trained on rows of normal sound; LearningError where there is none."""
    kind = load_kind(training.kind)
    arrays: dict[str, FloatArray] = kind.train(lambda epoch: _not_empty(blocks(epoch)), training)
    return arrays


def training_as_dict(training: Training) -> dict[str, Any]:
    """Return all that decides what is learned, ready for JSON; epochs matter to an autoencoder alone."""
    values = asdict(training)
    return values if training.kind == "autoencoder" else values | {"epochs": 1}


def _not_empty(blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield the blocks; raise where there is none."""
    rows = None
    for rows in blocks:
        yield rows
    if rows is None:
        msg = "there is no row to train on"
        raise LearningError(msg)
