"""Synthetic sound like MIMII's: four types of machine, normal and faulty, in a factory, before eight microphones.

Half a minute of each machine is computed once, normal and faulty; a clip is a segment of that at a random level, with
noise added. The same seed gives the same bytes.

==========  =====================================================  ==================================================
machine     normal                                                 fault
==========  =====================================================  ==================================================
fan         harmonics of the blades' passing, air flow             an unbalanced rotor: the turning shaft modulates
                                                                   the level and is audible itself
pump        mains hum and its harmonics, whirring impeller         cavitation: crackle, and a hiss of bursting bubbles
slider      a carriage that rolls back and forth                   a dry rail: the carriage squeals and sticks
valve       a solenoid's double click, repeated                    it leaks and hangs: late second click, and a hiss
==========  =====================================================  ==================================================
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mimii.recordings.clips import ABNORMAL, LABEL_NAMES, NORMAL, Identity

SAMPLE_RATE, N_CHANNELS = 16_000, 8
_SOUND_SECONDS = 30
_SOUND_SAMPLES = _SOUND_SECONDS * SAMPLE_RATE
_LEVEL = 0.007
_RADIUS_SAMPLES = 2.4
_FULL_SCALE = 32767
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")

Sound = NDArray[np.float32]
Signal = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SyntheticClip:
    """One clip to synthesize; its relative path is laid out as in the archives of MIMII."""

    path: str
    identity: Identity


def list_recordings(
    n_clips: int, machine_types: tuple[str, ...] = (), machine_ids: tuple[int, ...] = (0, 2), snr_db: int = 6
) -> Iterator[SyntheticClip]:
    """Yield clips to synthesize: machines in turn, and for each machine three normal clips, then an abnormal one."""
    machines = [(name, number) for name in machine_types or tuple(MACHINES) for number in machine_ids]
    for index in range(n_clips):
        round_, turn = divmod(index, len(machines))
        label = ABNORMAL if round_ % 4 == 3 else NORMAL
        number = round_ // 4 if label == ABNORMAL else round_ - round_ // 4
        name, machine = machines[turn]
        identity = Identity(name, f"id_{machine:02d}", number, float(snr_db), label)
        folder = f"{snr_db}_dB_{name}/{name}/{identity.machine_id}/{LABEL_NAMES[label]}"
        yield SyntheticClip(f"{folder}/{number:08d}.wav", identity)


def synthesize(identity: Identity, seconds: float = 10.0, seed: int = 0) -> NDArray[np.int16]:
    """Return the samples of one clip, shape (n_samples, 8)."""
    machine_type, machine_id, label = identity.machine_type, identity.machine_id, identity.label
    rng = _generator(seed, machine_type, machine_id, identity.number, label, identity.snr_db)
    n_samples = round(seconds * SAMPLE_RATE)
    machine = _segment(_machine_sound(machine_type, machine_id, label, seed), n_samples + 16, rng)
    machine = machine * np.float32(_LEVEL * 10 ** (rng.normal(0, 1) / 20))
    noise_level = np.float32(_LEVEL * 10 ** (-identity.snr_db / 20))
    angle = rng.uniform(0, 2 * np.pi)
    samples = np.empty((n_samples, N_CHANNELS), np.int16)
    for channel in range(N_CHANNELS):
        toward = np.cos(angle - 2 * np.pi * channel / N_CHANNELS)
        delay = 8 - round(_RADIUS_SAMPLES * toward)
        mixed = machine[delay : delay + n_samples] * np.float32(1 + 0.1 * toward)
        mixed += _segment(_factory_sound(seed), n_samples, rng) * noise_level
        mixed *= _FULL_SCALE
        samples[:, channel] = np.clip(mixed, -_FULL_SCALE, _FULL_SCALE, out=mixed)
    return samples


def wav_bytes(samples: NDArray[np.int16], sample_rate: int = SAMPLE_RATE) -> bytes:
    """Return a file such as MIMII's: WAVE_FORMAT_EXTENSIBLE with a fact chunk, samples at byte 80."""
    n_samples, n_channels = samples.shape
    data = samples.astype("<i2", copy=False).tobytes()
    mask = 0x63F if n_channels == N_CHANNELS else 0
    align = 2 * n_channels
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, n_channels, sample_rate, sample_rate * align, align, 16, 22, 16, mask)
    chunks = struct.pack("<4sI", b"fmt ", 40) + fmt + _PCM_GUID
    chunks += struct.pack("<4sII4sI", b"fact", 4, n_samples, b"data", len(data))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + len(data), b"WAVE") + chunks + data


def _generator(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def _segment(sound: Sound, n_samples: int, rng: np.random.Generator) -> Sound:
    """Cut a random segment out of a sound that repeats."""
    start = int(rng.integers(len(sound)))
    if start + n_samples <= len(sound):
        return sound[start : start + n_samples]
    return np.take(sound, np.arange(start, start + n_samples), mode="wrap")


@lru_cache(maxsize=2)
def _factory_sound(seed: int) -> Sound:
    """Return broadband noise, louder at low frequencies, as of distant machines."""
    rng = _generator(seed, "factory")
    noise = _noise(rng, 50, 7900, slope=-0.5) + 0.3 * _noise(rng, 300, 900, slope=0.0)
    return (noise / _rms(noise)).astype(np.float32)


@lru_cache(maxsize=64)
def _machine_sound(machine_type: str, machine_id: str, label: int, seed: int) -> Sound:
    normal, faulty = MACHINES[machine_type](_generator(seed, machine_type, machine_id))
    return normal if label == NORMAL else faulty


def _rms(signal: Signal) -> np.float64:
    level: np.float64 = np.sqrt(np.mean(signal**2))
    return level


def _noise(rng: np.random.Generator, low: float, high: float, slope: float) -> Signal:
    """Return noise between two frequencies, its amplitude proportional to frequency to the power `slope`; rms is 1."""
    hz = np.fft.rfftfreq(_SOUND_SAMPLES, 1 / SAMPLE_RATE)
    shape = np.where((hz >= low) & (hz <= high), np.maximum(hz, 1.0) ** slope, 0.0)
    noise = np.fft.irfft(shape * np.exp(2j * np.pi * rng.random(len(hz))), _SOUND_SAMPLES)
    return np.divide(noise, _rms(noise))


def _harmonics(base_hz: float, amplitudes: Signal, rng: np.random.Generator) -> Signal:
    """Return a sum of harmonics; the sound holds whole periods, so that it repeats without a click."""
    spectrum = np.zeros(_SOUND_SAMPLES // 2 + 1, np.complex128)
    bins = round(base_hz * _SOUND_SECONDS) * np.arange(1, len(amplitudes) + 1)
    phases = np.exp(2j * np.pi * rng.random(len(amplitudes)))
    spectrum[bins] = amplitudes * phases * (_SOUND_SAMPLES / 2)
    return np.fft.irfft(spectrum, _SOUND_SAMPLES)


def _click(hz: float, decay_seconds: float) -> Signal:
    """Return a tone that decays exponentially."""
    time = np.arange(round(6 * decay_seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.exp(-time / decay_seconds) * np.sin(2 * np.pi * hz * time)


def _repeat(click: Signal, seconds: Signal, levels: Signal) -> Signal:
    """Return a sound with a click at each of these times."""
    impulses = np.zeros(_SOUND_SAMPLES)
    np.add.at(impulses, np.round(seconds * SAMPLE_RATE).astype(int) % _SOUND_SAMPLES, levels)
    return np.fft.irfft(np.fft.rfft(impulses) * np.fft.rfft(click, _SOUND_SAMPLES), _SOUND_SAMPLES)


def _both(normal: Signal, fault: Signal) -> tuple[Sound, Sound]:
    """Return the normal sound with an rms of 1, and the faulty one on the same scale."""
    level = _rms(normal)
    return (normal / level).astype(np.float32), ((normal + fault) / level).astype(np.float32)


def _fan(rng: np.random.Generator) -> tuple[Sound, Sound]:
    shaft_hz, blades = rng.uniform(18, 30), rng.integers(5, 9)
    weights = 0.8 ** np.arange(12) * rng.uniform(0.4, 1.0, 12)
    tones = _harmonics(shaft_hz * blades, weights, rng)
    air = _noise(rng, 80, 7000, slope=-0.7)
    shaft = _harmonics(shaft_hz, np.array([0.0, 0.8, 0.6, 0.4, 0.3, 0.3]), rng)
    turning = _harmonics(shaft_hz, np.ones(1), rng)
    normal = tones + air
    return _both(normal, shaft + 0.5 * turning * normal)


def _pump(rng: np.random.Generator) -> tuple[Sound, Sound]:
    hum = _harmonics(50, np.array([0.3, 1.0, 0.2, 0.7, 0.1, 0.4, 0.1, 0.3]), rng)
    whir = _harmonics(rng.uniform(900, 1500), np.array([0.5, 0.25, 0.12]), rng)
    flow = _noise(rng, 100, 3000, slope=-0.5)
    n_bubbles = 60 * _SOUND_SECONDS
    times, levels = rng.uniform(0, _SOUND_SECONDS, n_bubbles), rng.exponential(3.0, n_bubbles)
    crackle = _repeat(_click(rng.uniform(2500, 3500), 0.0015), times, levels)
    return _both(hum + whir + flow, crackle + 0.4 * _noise(rng, 3000, 7500, slope=0.3))


def _slider(rng: np.random.Generator) -> tuple[Sound, Sound]:
    strokes = round(_SOUND_SECONDS / rng.uniform(1.0, 1.6))
    speed = np.abs(np.sin(np.pi * strokes / _SOUND_SECONDS * (np.arange(_SOUND_SAMPLES) / SAMPLE_RATE)))
    motor = _harmonics(rng.uniform(180, 260), np.array([0.3, 0.2, 0.2, 0.1]), rng)
    rolling = speed**2 * _noise(rng, 300, 5000, slope=-0.5)
    squeal = speed**4 * _harmonics(rng.uniform(2600, 3400), np.array([0.7, 0.3]), rng)
    sticks = np.arange(0, _SOUND_SECONDS, rng.uniform(0.11, 0.15))
    chatter = _repeat(_click(rng.uniform(1400, 2000), 0.004), sticks, rng.uniform(1, 3, len(sticks)))
    return _both(motor * (0.4 + speed) + 2 * rolling, squeal + chatter)


def _valve(rng: np.random.Generator) -> tuple[Sound, Sound]:
    every = _SOUND_SECONDS / round(_SOUND_SECONDS / rng.uniform(0.5, 0.9))
    opening = np.arange(0, _SOUND_SECONDS - every / 2, every)
    click, clack = _click(rng.uniform(1200, 2200), 0.006), _click(rng.uniform(2500, 4500), 0.003)
    levels = rng.uniform(0.9, 1.1, len(opening))
    hum = 0.02 * _harmonics(100, np.array([1.0, 0.5, 0.3]), rng)
    normal = _repeat(click, opening, levels) + _repeat(clack, opening + 0.09, 0.8 * levels) + hum
    late = opening + rng.uniform(0.15, 0.3, len(opening))
    change = _repeat(clack, late, 0.7 * levels) - _repeat(clack, opening + 0.09, 0.8 * levels)
    return _both(normal, change + 0.06 * _noise(rng, 1500, 7000, slope=0.2))


MACHINES: Mapping[str, Callable[[np.random.Generator], tuple[Sound, Sound]]] = MappingProxyType(
    {"fan": _fan, "pump": _pump, "slider": _slider, "valve": _valve}
)
"""Functions from a generator, which determines the machine, to its normal and its faulty sound."""
