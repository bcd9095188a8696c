"""How detectors are trained, and how their thresholds are chosen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimii.detection.kinds import DEFAULT_KIND, DEFAULT_RULE, KINDS
from mimii.detection.thresholds import Rule, RuleError, read_rule


class LearningError(ValueError):
    """There is nothing to learn from, no such kind of detector, or no such threshold."""


@dataclass(frozen=True, slots=True)
class Training:
    """How the detectors of machines are trained.

    Attributes
    ----------
    kinds : str or sequence of str
        One or several of `mimii.detection.KINDS`; the verdicts are those of the first one.
    epochs : int
        How often an autoencoder sees all rows; the other kinds see them once.
    seed : int
        Of initial weights, order of rows, and random choice of rows.
    normalize : bool
        Whether each feature of a row is scaled to mean 0 and standard deviation 1 over the machine's training clips.
    threshold : str
        How a threshold is made of the scores of normal clips: ``"sigma 3"``, ``"quantile 0.9"``, ``"gamma 0.9"``, or a
        number.

    """

    kinds: str | Sequence[str] = (DEFAULT_KIND,)
    epochs: int = 50
    seed: int = 0
    normalize: bool = True
    threshold: str = DEFAULT_RULE

    def __post_init__(self) -> None:
        names = (self.kinds,) if isinstance(self.kinds, str) else tuple(self.kinds)
        object.__setattr__(self, "kinds", names)
        if unknown := [name for name in names if name not in KINDS]:
            msg = f"there is no kind of detector {unknown[0]!r}; there are {', '.join(KINDS)}"
            raise LearningError(msg)
        if not names or len(set(names)) < len(names):
            msg = f"name one kind of detector or several, each once, not {', '.join(names) or 'none'}"
            raise LearningError(msg)
        for name, least in (("epochs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, not {getattr(self, name)}"
                raise LearningError(msg)
        try:
            read_rule(self.threshold)
        except RuleError as error:
            raise LearningError(str(error)) from error

    @property
    def rule(self) -> Rule:
        """How a threshold is made."""
        return read_rule(self.threshold)

    @property
    def reads_rows(self) -> bool:
        """Whether a detector learns from rows."""
        return any(KINDS[name].reads_rows for name in self.kinds)


def training_as_dict(training: Training) -> dict[str, Any]:
    """Return all that decides what is learned, ready for JSON; what does not matter to these kinds is left out."""
    values = asdict(training) | {"kinds": list(training.kinds), "threshold": str(training.rule)}
    kinds = [KINDS[name] for name in training.kinds]
    if not any(kind.is_network for kind in kinds):
        values["epochs"] = 1
    if not training.reads_rows:
        values |= {"seed": 0, "normalize": True}
    return values
