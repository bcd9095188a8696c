"""A squeal of half a second in minutes of a machine's noise: one event, when it was, and none where there is none."""

import numpy as np
import pytest

import mimii
from tests.detection.test_new_recordings import write

pytestmark = pytest.mark.usefixtures("without_page")
RATE, SQUEAL_HZ, AT_S = 16_000, 3000, 97.3


def hiss(seed, seconds):
    """Return noise that falls with frequency and a hum, a bit louder or quieter each second, as machines are."""
    rng, n = np.random.default_rng(seed), int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1 / RATE)
    samples = np.fft.irfft(spectrum / (1 + frequency / 500), n)
    samples /= samples.std()
    level = np.interp(
        np.arange(n), np.arange(0, n + RATE, RATE), 1 + 0.1 * rng.standard_normal(n // RATE + 1 + (n % RATE > 0))
    )
    return 1000 * level * samples + 300 * np.sin(2 * np.pi * 100 * np.arange(n) / RATE)


def squeal(samples):
    """Add half a second of a tone that is 20 dB above what the noise has in its band, 200 Hz wide."""
    power = np.abs(np.fft.rfft(samples[: 10 * RATE])) ** 2
    frequency = np.fft.rfftfreq(10 * RATE, 1 / RATE)
    in_band = 2 * power[abs(frequency - SQUEAL_HZ) < 100].sum() / (10 * RATE) ** 2
    start, count = int(AT_S * RATE), RATE // 2
    tone = np.sqrt(2 * in_band * 10 ** (20 / 10)) * np.sin(2 * np.pi * SQUEAL_HZ * np.arange(count) / RATE)
    samples[start : start + count] += tone
    return samples


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Make 12 clips of 5 s to learn from, and two recordings of 3 minutes, of which one has the squeal."""
    folder = tmp_path_factory.mktemp("squeal")
    for seed in range(12):
        write(folder / f"raw/press7/normal/{seed:02d}.wav", hiss(seed, 5)[:, np.newaxis])
    write(folder / "night/press7/quiet.wav", hiss(100, 180)[:, np.newaxis])
    write(folder / "night/press7/squeal.wav", squeal(hiss(101, 180))[:, np.newaxis])
    return folder


@pytest.mark.parametrize("preset", ["explore", "mimii-baseline"])
def test_a_squeal_is_one_event(recordings, preset):
    table = recordings / f"{preset}.zarr"
    plan = mimii.plan_table(mimii.find_recordings(recordings / "raw"), mimii.FeatureSpec.preset(preset), split="none")
    mimii.featurize(plan, table)
    for kind in ("neighbours", "pca"):
        report = mimii.detect(table, recordings / f"{preset}-{kind}", training=mimii.Training(kind))
        found = mimii.score(recordings / "night", report)
        [event] = found.events.itertuples()
        assert event.recording.endswith("squeal.wav"), kind
        assert AT_S - 1 < event.start_s <= event.peak_s <= event.stop_s < AT_S + 0.5 + 1, kind
        assert found.clips.alarm.tolist()[1:] == [True], kind
        if kind == "neighbours":
            assert found.clips.peak_hz[1] == pytest.approx(SQUEAL_HZ, rel=0.1)
