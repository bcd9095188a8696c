"""The kinds of detectors, by name; apart from what computes them, so that listing them imports nothing."""

from typing import Literal, get_args

Kind = Literal["autoencoder", "pca", "knn"]
"""How rows are reconstructed; see `mimii.detection.detectors.reconstruct`."""

KINDS: tuple[Kind, ...] = get_args(Kind)
