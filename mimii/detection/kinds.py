"""The kinds of detectors. Each is a module here with `train` and `reconstruct`; importing this imports none of them."""

import importlib
from types import ModuleType

KINDS = {
    "autoencoder": "a network of layers 64-64-8-64-64",
    "pca": "8 principal components",
    "knn": "the nearest of 4,096 training rows",
}
"""By name: what a row is reconstructed from, for the help of the command and the page."""


def load_kind(kind: str) -> ModuleType:
    """Return the module of a kind."""
    return importlib.import_module(f"mimii.detection.{kind}")
