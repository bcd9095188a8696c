"""The kinds of detectors. Each is a module here; importing this imports none of them.

A detector of clips has ``fit(examples) -> arrays`` and ``score(statistics, arrays) -> float``; one of rows has
``train(examples, training) -> arrays`` and ``score_rows(rows, arrays) -> ndarray``. `mimii.detection.detectors` makes
of both what scores clips and the time within them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of detector.

    Attributes
    ----------
    summary : str
        What a clip is compared with.
    module : str
        The name of its module.
    reads_rows : bool
        Whether it learns from the rows of clips, and not from the statistics of their mel bands.
    is_network : bool
        Whether it is trained in epochs: that takes too long to do it ten times.

    """

    summary: str
    module: str
    reads_rows: bool = True
    is_network: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "neighbours": Kind("the nearest training clip", "neighbours", reads_rows=False),
        "mahalanobis": Kind("the mean and covariance (Ledoit-Wolf) of training clips", "mahalanobis", reads_rows=False),
        "autoencoder": Kind("rows reconstructed by layers 64-64-8-64-64", "autoencoder", is_network=True),
        "autoencoder-mahalanobis": Kind(
            "the same, errors weighted by their covariance in each domain", "autoencoder_mahalanobis", is_network=True
        ),
        "pca": Kind("rows reconstructed from 8 principal components", "pca"),
        "knn": Kind("the nearest of 4,096 training rows", "knn"),
    }
)
"""By name: what a clip, or a row, is compared with. The first one is the default."""

DEFAULT_KIND = next(iter(KINDS))
DEFAULT_RULE = "sigma 3"
"""How a threshold is made of the scores of normal clips."""


def load_kind(name: str) -> ModuleType:
    """Return the module of a kind."""
    return importlib.import_module(f"mimii.detection.{KINDS[name].module}")
