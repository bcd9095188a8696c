"""What features are computed: `FeatureSpec`, its presets and its checks."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mimii.features.scales import SCALES

SPEC_EXPECTED = 'spec must be a mimii.FeatureSpec, such as mimii.FeatureSpec.preset("explore")'
"""What to say where something else is given."""


class SpecError(ValueError):
    """A feature parameter that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """All that decides the value of a feature, given a recording.

    Attributes
    ----------
    sample_rate : int
        Hz. A clip with another rate does not fit in the table.
    channel : int
        Which microphone, counted from 0.
    n_fft : int
        Samples in the Hann window and the Fourier transform (2048 samples are 128 ms at 16 kHz).
    hop_length : int
        Samples from one frame to the next.
    n_mels : int
        Mel bands between 0 Hz and half the sample rate.
    frames : int
        Successive frames stacked into one row.
    power : float
        Exponent of the magnitude spectrogram: 1 for magnitude, 2 for power.
    scale : str
        How mel power becomes dB, one of `mimii.features.scales.SCALES`: ref_max, add_eps, max_eps.

    Raises
    ------
    SpecError
        If a parameter is out of range.

    """

    sample_rate: int = 16_000
    channel: int = 0
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 64
    frames: int = 5
    power: float = 2.0
    scale: str = "ref_max"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int):
                msg = f"{name} must be a whole number, not {value!r}"
                raise SpecError(msg)
            if value < least:
                msg = f"{name} must be at least {least}, not {value}"
                raise SpecError(msg)
        if not (math.isfinite(self.power) and self.power > 0):
            msg = f"power must be a positive number, not {self.power}"
            raise SpecError(msg)
        if self.scale not in SCALES:
            msg = f"scale must be one of {', '.join(SCALES)}, not {self.scale!r}"
            raise SpecError(msg)

    @classmethod
    def preset(cls, name: str, **changes: float | str) -> "FeatureSpec":
        """Return a preset with some parameters changed.

        Parameters
        ----------
        name : str
            One of `PRESETS`: explore, autoencoder, mimii-baseline, dcase2020.
        **changes
            Parameters by name, such as ``n_mels=128``.

        Returns
        -------
        FeatureSpec
            The parameters of the preset but for the changes.

        Raises
        ------
        SpecError
            If there is no such preset or parameter, or a value makes no sense.

        """
        if name not in PRESETS:
            msg = f"there is no preset {name!r}; there are {', '.join(PRESETS)}"
            raise SpecError(msg)
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(changes.keys() - set(names)):
            msg = f"there is no parameter {unknown[0]!r}; there are {', '.join(names)}"
            raise SpecError(msg)
        return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]  # each has a type of its own

    @property
    def n_features(self) -> int:
        """Values in one row: ``frames * n_mels``."""
        return self.frames * self.n_mels

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value that a feature can have, in dB; None where there are none."""
        return SCALES[self.scale].bounds

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters by name, as JSON takes them."""
        return dataclasses.asdict(self)


_LEAST: Mapping[str, int] = MappingProxyType(
    {"sample_rate": 1, "channel": 0, "n_fft": 2, "hop_length": 1, "n_mels": 1, "frames": 1}
)

PRESETS: Mapping[str, FeatureSpec] = MappingProxyType(
    {
        "explore": FeatureSpec(),
        "autoencoder": FeatureSpec(n_fft=1024),
        "mimii-baseline": FeatureSpec(n_fft=1024, scale="add_eps"),
        "dcase2020": FeatureSpec(n_fft=1024, n_mels=128, scale="max_eps"),
    }
)
"""Named starting points; any parameter can be changed with `dataclasses.replace`."""


def n_frames(n_samples: int, spec: FeatureSpec) -> int:
    """Count the centred frames of a clip: ``1 + n_samples // hop_length``, and none where there is no sample.

    The clip is padded by ``n_fft // 2`` on both sides; where `n_fft` is odd, that is one sample less than it takes.

    Parameters
    ----------
    n_samples : int
        Samples of one channel.
    spec : FeatureSpec
        Uses hop_length and n_fft.

    Returns
    -------
    int
        As many as ``librosa.stft(..., center=True)`` returns.

    Examples
    --------
    >>> n_frames(160_000, FeatureSpec())
    313

    """
    return 1 + (n_samples - spec.n_fft % 2) // spec.hop_length if n_samples > 0 else 0


def n_rows(n_samples: int, spec: FeatureSpec) -> int:
    """Count the rows of stacked frames of a clip: ``n_frames - frames + 1``, at least 0.

    Examples
    --------
    >>> n_rows(160_000, FeatureSpec())
    309

    """
    return max(0, n_frames(n_samples, spec) - spec.frames + 1)
