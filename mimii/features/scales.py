"""The scales of dB: how a mel spectrogram becomes dB. A new scale is added here, and nowhere else.

==========  =====================================================================================
scale       formula
==========  =====================================================================================
`ref_max`   ``10 log10(max(M, 1e-10)) - 10 log10(max(M.max(), 1e-10))``, at least -80 dB;
            ``librosa.power_to_db(M, ref=np.max)``
`add_eps`   ``20 / power * log10(M + eps)``; the baseline published with MIMII
`max_eps`   ``20 / power * log10(max(M, eps))``; the baseline of DCASE 2020 task 2
==========  =====================================================================================

with eps the float64 epsilon, 2.2e-16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from sys import float_info
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The names of scales are options: where only these are needed, importing NumPy would take most of the time.
# ruff: noqa: PLC0415

_TOP_DB = 80.0
_LEAST_POWER = 1e-10


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of dB.

    Attributes
    ----------
    kernel : callable
        Takes the mel spectrogram of a whole clip, float32, and the exponent of the spectrogram; returns dB, float32.
    published : callable
        The same by librosa, or by the formula of the publication: what `kernel` is checked against.
    bounds : tuple of float, or None
        The least and the greatest value that can come out, in dB; None where there are none.
    is_relative : bool
        Whether a clip that is louder as a whole comes out the same.

    """

    kernel: "Callable[[NDArray[np.float32], float], NDArray[np.float32]]"
    published: "Callable[[NDArray[np.floating], float], NDArray[np.floating]]"
    bounds: tuple[float, float] | None = None
    is_relative: bool = False


def _relative(mel: "NDArray[np.float32]", _power: float) -> "NDArray[np.float32]":
    import numpy as np

    decibel = np.maximum(mel, _LEAST_POWER)
    np.log10(decibel, out=decibel)
    np.multiply(decibel, 10, out=decibel)
    peak = decibel.max(initial=-np.inf)
    np.subtract(decibel, peak, out=decibel)
    return np.maximum(decibel, -_TOP_DB, out=decibel)


def _relative_published(mel: "NDArray[np.floating]", _power: float) -> "NDArray[np.floating]":
    import librosa
    import numpy as np

    return np.asarray(librosa.power_to_db(mel, ref=np.max, top_db=_TOP_DB))


_Lift = Literal["add", "maximum"]


def _absolute(lift: _Lift, mel: "NDArray[np.float32]", power: float) -> "NDArray[np.float32]":
    import numpy as np

    decibel: NDArray[np.float32] = getattr(np, lift)(mel, float_info.epsilon)
    np.log10(decibel, out=decibel)
    return np.multiply(decibel, 20 / power, out=decibel)


def _absolute_published(lift: _Lift, mel: "NDArray[np.floating]", power: float) -> "NDArray[np.floating]":
    import numpy as np

    return np.asarray(20.0 / power * np.log10(getattr(np, lift)(mel, float_info.epsilon)))


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "ref_max": Scale(_relative, _relative_published, (-_TOP_DB, 0.0), is_relative=True),
        "add_eps": Scale(partial(_absolute, "add"), partial(_absolute_published, "add")),
        "max_eps": Scale(partial(_absolute, "maximum"), partial(_absolute_published, "maximum")),
    }
)
"""By the name that `FeatureSpec.scale` has."""
