"""What features are computed: `FeatureSpec`, its presets and its checks."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from mimii.features.scales import SCALES

SPEC_EXPECTED = 'spec must be a mimii.FeatureSpec, such as mimii.FeatureSpec.preset("explore")'
"""What to say where something else is given."""


MEAN, ALL = CHANNELS = ("mean", "all")
"""What `FeatureSpec.channel` may be beside a number."""

DTYPES = ("float32", "float16")


class SpecError(ValueError):
    """A feature parameter that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """All that decides which clips a recording gives, and the value of each of their features.

    Attributes
    ----------
    sample_rate : int
        Hz. A recording with another rate is a bad clip, unless it is resampled.
    channel : int or str
        Which microphone, counted from 0; ``"mean"`` of all; or ``"all"``: each is a clip of its own.
    segment : float or None
        Seconds of the segments that a recording is cut into, each a clip; None for whole recordings.
    overlap : float
        Seconds that a segment shares with the one before.
    n_fft : int
        Samples in the Fourier transform (2048 samples are 128 ms at 16 kHz).
    win_length : int or None
        Samples in the Hann window, which is centred in the transform; None for `n_fft`.
    hop_length : int
        Samples from one frame to the next.
    n_mels : int
        Mel bands between `fmin` and `fmax`.
    fmin : float
        Hz.
    fmax : float or None
        Hz; None for half the sample rate.
    frames : int
        Successive frames stacked into one row.
    stride : int
        Frames from one row to the next.
    power : float
        Exponent of the magnitude spectrogram: 1 for magnitude, 2 for power.
    scale : str
        How mel power becomes dB, one of `mimii.features.scales.SCALES`: ref_max, add_eps, max_eps.
    dtype : str
        ``"float32"``; or ``"float16"``: half the size, rounded to nearest. From 64 to 128 dB, below or above 0, a value
        is then off by at most 0.031 dB, from 128 to 256 by 0.0625.

    Raises
    ------
    SpecError
        If a parameter is out of range.

    """

    sample_rate: int = 16_000
    channel: int | str = 0
    segment: float | None = None
    overlap: float = 0.0
    n_fft: int = 2048
    win_length: int | None = None
    hop_length: int = 512
    n_mels: int = 64
    fmin: float = 0.0
    fmax: float | None = None
    frames: int = 5
    stride: int = 1
    power: float = 2.0
    scale: str = "ref_max"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("segment", "overlap", "fmin", "fmax", "power"):  # 10 is 10.0, also in a digest
            if type(value := getattr(self, name)) is int:
                object.__setattr__(self, name, float(value))
        for name, least in _LEAST.items():
            _check_whole(name, getattr(self, name), least)
        if self.channel not in CHANNELS:
            _check_whole("channel", self.channel, 0, f", {' or '.join(CHANNELS)}")
        if self.win_length is not None:
            _check_whole("win_length", self.win_length, 1)
            _check(self.win_length <= self.n_fft, f"win_length {self.win_length} is more than n_fft {self.n_fft}")
        _check(_is_number(self.power) and self.power > 0, f"power must be a positive number, not {self.power}")
        for name, allowed in (("scale", tuple(SCALES)), ("dtype", DTYPES)):
            value = getattr(self, name)
            _check(value in allowed, f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        self._check_band()
        self._check_segment()

    def _check_band(self) -> None:
        low, high, half = self.fmin, self.highest_frequency, self.sample_rate / 2
        _check(_is_number(low) and low >= 0, f"fmin must be a frequency in Hz, not {low}")
        _check(_is_number(high) and high <= half, f"fmax {high} Hz is above half the sample rate, {half:g} Hz")
        _check(low < high, f"fmin {low:g} Hz is not below fmax {high:g} Hz")

    def _check_segment(self) -> None:
        length, overlap = self.segment, self.overlap
        if length is None:
            _check(overlap == 0, f"overlap {overlap} s needs segment, the length of the segments that overlap")
            return
        _check(_is_number(length) and length > 0, f"segment must be a positive number of seconds, not {length}")
        least = f"overlap must be at least 0 s and less than the segment of {length} s, not {overlap}"
        _check(_is_number(overlap) and 0 <= overlap < length, least)
        least = f"segment {length} s less overlap {overlap} s must be at least a sample at {self.sample_rate} Hz"
        _check((length - overlap) * self.sample_rate >= 1, least)
        frames = n_frames(int(length * self.sample_rate), self)
        _check(frames >= self.frames, f"segment {length} s makes {frames} of the {self.frames} frames that a row takes")

    @classmethod
    def preset(cls, name: str, **changes: float | str | None) -> "FeatureSpec":
        """Return a preset with some parameters changed.

        Parameters
        ----------
        name : str
            One of `PRESETS`: explore, autoencoder, mimii-baseline, dcase (also by year, as dcase2024), mobilenet.
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
        return PRESETS[name].changed(**changes)

    def changed(self, **changes: float | str | None) -> "FeatureSpec":
        """Return the spec with some parameters changed; SpecError if there is no such one."""
        names = [field.name for field in dataclasses.fields(self)]
        if unknown := sorted(changes.keys() - set(names)):
            msg = f"there is no parameter {unknown[0]!r}; there are {', '.join(names)}"
            raise SpecError(msg)
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # each has a type of its own

    @property
    def n_features(self) -> int:
        """Values in one row: ``frames * n_mels``."""
        return self.frames * self.n_mels

    @property
    def highest_frequency(self) -> float:
        """Where the highest mel band ends, in Hz."""
        return self.sample_rate / 2 if self.fmax is None else self.fmax

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value that a feature can have, in dB; None where there are none."""
        return SCALES[self.scale].bounds

    @property
    def is_deaf_to_level(self) -> bool:
        """Whether a clip that is louder as a whole has the same features."""
        return SCALES[self.scale].is_relative

    @property
    def keeps_frames(self) -> bool:
        """Whether the rows of a clip hold all of its frames as they were computed."""
        return self.stride == 1 and self.dtype == "float32"

    def _repr_html_(self) -> str:
        """Return the parameters as a table for notebooks, with what they are in seconds and Hz."""
        values = {name: "none" if value is None else str(value) for name, value in self.as_dict().items()}
        rows = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td style='text-align: left'>{text}</td></tr>"
            for name, text in (values | describe_axes(self)).items()
        )
        return f"<table>{rows}</table>"

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters by name, as JSON takes them."""
        return dataclasses.asdict(self)


def complete_spec(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored spec with the parameters that earlier versions did not have: they computed as their defaults."""
    return FeatureSpec().as_dict() | dict(stored)


def _is_number(value: Any) -> bool:  # noqa: ANN401  what a user gave
    return isinstance(value, int | float) and math.isfinite(value)


def _check(is_good: bool, problem: str) -> None:  # noqa: FBT001  the assertion itself
    if not is_good:
        raise SpecError(problem)


def _check_whole(name: str, value: Any, least: int, other: str = "") -> None:  # noqa: ANN401  what a user gave
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    _check(is_whole, f"{name} must be a whole number{other}, not {value!r}")
    _check(value >= least, f"{name} must be at least {least}{other}, not {value}")


_LEAST: Mapping[str, int] = MappingProxyType(
    {"sample_rate": 1, "n_fft": 2, "hop_length": 1, "n_mels": 1, "frames": 1, "stride": 1}
)


class Preset(NamedTuple):
    """A named starting point: its parameters, what it is in a few words, and its other names."""

    name: str
    spec: FeatureSpec
    summary: str
    aliases: tuple[str, ...] = ()


_DCASE = FeatureSpec(n_fft=1024, n_mels=128, scale="max_eps")

ALL_PRESETS = (
    Preset("explore", FeatureSpec(), "dB below the clip's maximum, n_fft 2048; deaf to level"),
    Preset("autoencoder", FeatureSpec(n_fft=1024), "the same with n_fft 1024"),
    Preset("mimii-baseline", FeatureSpec(n_fft=1024, scale="add_eps"), "absolute dB, as published with MIMII"),
    Preset(
        "dcase",
        _DCASE,
        "absolute dB of 128 bands, as the baselines of DCASE task 2 from 2020 on",
        tuple(f"dcase{year}" for year in range(2020, 2027)),
    ),
    Preset(
        "mobilenet",
        dataclasses.replace(_DCASE, frames=64, stride=8),
        "the same, 64 frames a row and a row every 8 frames, as the MobileNetV2 baselines of DCASE 2021 and 2022",
    ),
)
"""All presets: another one is added here, and nowhere else; help and documentation are made from it."""

PRESETS: Mapping[str, FeatureSpec] = MappingProxyType(
    {name: preset.spec for preset in ALL_PRESETS for name in (preset.name, *preset.aliases)}
)
"""By name, also by other names; any parameter can be changed with `FeatureSpec.changed`."""


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
    """Count the rows of stacked frames of a clip: ``(n_frames - frames) // stride + 1``, at least 0.

    Examples
    --------
    >>> n_rows(160_000, FeatureSpec())
    309

    """
    return max(0, (n_frames(n_samples, spec) - spec.frames) // spec.stride + 1)


def frame_seconds(spec: FeatureSpec) -> float:
    """Return the time from one frame to the next, in s: ``hop_length / sample_rate``."""
    return spec.hop_length / spec.sample_rate


def describe_axes(spec: FeatureSpec) -> dict[str, str]:
    """Say of parameters what they are in seconds and Hz, by name."""
    frame_ms, rate = 1000 * frame_seconds(spec), spec.sample_rate
    row_ms = 1000 * (spec.n_fft + (spec.frames - 1) * spec.hop_length) / rate
    window = spec.win_length
    return {
        "sample_rate": f"{rate:,} Hz",
        "segment": "whole recordings" if spec.segment is None else f"{spec.segment:g} s",
        "overlap": f"{spec.overlap:g} s",
        "n_fft": f"{spec.n_fft:,} samples: {_ms(spec.n_fft, rate)}, bins {rate / spec.n_fft:.3g} Hz apart",
        "win_length": "as n_fft" if window is None else f"{window:,} samples: {_ms(window, rate)}",
        "hop_length": f"{spec.hop_length:,} samples: a frame each {frame_ms:.4g} ms",
        "n_mels": f"{spec.n_mels} bands from {spec.fmin:,.6g} to {spec.highest_frequency:,.6g} Hz",
        "fmin": f"{spec.fmin:,.6g} Hz",
        "fmax": f"{spec.highest_frequency:,.6g} Hz",
        "frames": f"{spec.frames} in a row: {row_ms:.4g} ms of sound",
        "stride": f"{spec.stride}: a row each {spec.stride * frame_ms:.4g} ms",
    }


def _ms(n_samples: int, rate: int) -> str:
    return f"{1000 * n_samples / rate:.4g} ms"
