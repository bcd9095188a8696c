"""Recordings that tests make: small, and each with sound of its own, so that rows in a wrong place show."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from mimii.features import Header
from mimii.features.decode import check_finite, read_channels
from mimii.recordings.synthesis import wav_bytes


def noise(seed: int, n_samples: int = 16_000, n_channels: int = 1) -> np.ndarray:
    """Return 16-bit noise of its own colour and level, shape (n_samples, n_channels)."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((n_samples, n_channels)) * rng.uniform(300, 3000)
    samples[1:] += rng.uniform(-0.9, 0.9) * samples[:-1]
    return np.clip(samples, -32768, 32767).astype(np.int16)


def write_clip(path: Path, seed: int, n_samples: int = 16_000, n_channels: int = 1, sample_rate: int = 16_000) -> Path:
    """Write a WAV file of noise; make its folder where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(noise(seed, n_samples, n_channels), sample_rate))
    return path


def write_machines(root: Path, n_clips: int, n_samples: int = 16_000) -> list[Path]:
    """Write clips as MIMII lays them out: two machines, three normal clips and then an abnormal one in turn."""
    paths = []
    for index in range(n_clips):
        label = "abnormal" if index % 4 == 3 else "normal"
        folder = root / "6_dB_fan" / "fan" / f"id_0{index % 2 * 2}" / label
        paths.append(write_clip(folder / f"{index:08d}.wav", index, n_samples))
    return paths


def read_channel(file: BinaryIO, channel: int) -> tuple[Header, np.ndarray]:
    """Read a channel as workers do, whole; the header has the true number of samples."""
    header, samples = read_channels(file, [channel])
    return header, check_finite(samples[0])
