"""How far a value may be from what was computed because of the type that it is stored as."""

import numpy as np

from mimii.features import FeatureSpec


def rounding_of(spec: FeatureSpec) -> float:
    """Return by which share of itself a value may be rounded: 0 for float32, as which it was computed."""
    return 0.0 if spec.dtype == "float32" else float(np.finfo(spec.dtype).eps) / 2
