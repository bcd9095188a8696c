"""A factory whose recordings come, go and change; what a table of them must be; and runs that stop in the middle."""

import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import mimii
from mimii.features import FeatureSpec
from mimii.storage import DiskObjects
from tests.helpers.commands import open_table
from tests.helpers.recordings import write_clip

SPEC = FeatureSpec(n_mels=16, n_fft=512, hop_length=256, frames=3)
LENGTHS = (4000, 12_000, 90_000)


class KilledError(BaseException):
    """Stands for kill -9: nothing between the write that it replaces and the test may catch it."""


@dataclass
class Factory:
    """A folder of recordings, and what a table of them must be: the clips that were ever in it, in order."""

    folder: Path
    clock: int = 1_700_000_000
    contents: dict[str, tuple[int, int]] = field(default_factory=dict)

    def path(self, name):
        return self.folder / "raw" / "press" / "id_01" / ("normal" if int(name) % 4 else "abnormal") / f"{name}.wav"

    def write(self, name, seed, n_samples):
        path = write_clip(self.path(name), seed, n_samples)
        self.clock += 1
        os.utime(path, (self.clock, self.clock))
        self.contents[name] = (seed, n_samples)

    def delete(self, name):
        self.path(name).unlink()
        del self.contents[name]


def plan_of(factory, **how):
    clips = mimii.find_recordings(str(factory.folder / "raw"))
    return mimii.plan_table(clips, SPEC, split="stratified", shard_bytes=1 << 20, **how)


def expected_rows(n_samples, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(Path(folder) / "a.wav", seed, n_samples)
        decibel = mimii.log_mel(str(path), SPEC)
    return np.array([decibel[row : row + 3].ravel() for row in range(len(decibel) - 2)])


def check_against(factory, output):
    """Compare each clip of the table with one made of its last recording, and all else with what must be."""
    table = open_table(output)
    paths = [Path(str(path)).stem for path in table.path.values]
    live = {name: clip for clip, name in enumerate(paths) if table.status.values[clip] == "ok"}
    assert live.keys() == factory.contents.keys()
    for name, (seed, n_samples) in factory.contents.items():
        clip = live[name]
        first, count = int(table.first_row[clip]), int(table.n_rows[clip])
        rows = expected_rows(n_samples, seed)
        np.testing.assert_array_equal(table.features.values[first : first + count], rows)
        assert set(table.row_clip.values[first : first + count]) == {clip}
        decibel = np.concatenate([rows[:, :16], rows[-1].reshape(3, 16)[1:]]).astype(float)
        for statistic, values in (("mean", decibel.mean(0)), ("std", decibel.std(0)), ("max", decibel.max(0))):
            np.testing.assert_allclose(table[f"mel_{statistic}"].values[clip], values, rtol=0, atol=1e-4)
    for clip, status in enumerate(table.status.values):
        if status != "ok":
            rows = slice(int(table.first_row[clip]), int(table.first_row[clip] + table.n_rows[clip]))
            assert status in ("removed", "replaced")
            assert np.isnan(table.features.values[rows]).all()
            assert np.isnan(table.mel_mean.values[clip]).all()
    good = table.status.values == "ok"
    is_train = good & (table.split.values == "train")
    counted = is_train if is_train.any() else good
    rows = table.features.values[counted[table.row_clip.values]].astype(float)
    if len(rows):
        np.testing.assert_allclose(table.feature_mean, rows.mean(0), atol=1e-4)
        np.testing.assert_allclose(table.feature_std, rows.std(0), atol=1e-4)
    verdict = mimii.verify(str(output))
    assert verdict.is_right, verdict.findings


def update(factory, output):
    logging.disable(logging.WARNING)
    try:
        return mimii.featurize(plan_of(factory), str(output), update=True, prune=True)
    finally:
        logging.disable(logging.NOTSET)


def dying_at(monkeypatch, n_acts):
    """Have writes and deletions of objects fail for ever after so many, as if the process was killed there."""
    left = [n_acts]

    def limited(act):
        def wrapper(self, *arguments):
            if left[0] <= 0:
                raise KilledError
            left[0] -= 1
            return act(self, *arguments)

        return wrapper

    for name in ("put", "delete", "delete_below"):
        monkeypatch.setattr(DiskObjects, name, limited(getattr(DiskObjects, name)))
    original = DiskObjects.put_all

    def put_all(self, objects):
        for key in objects:
            if left[0] <= 0:
                raise KilledError
            left[0] -= 1
            original(self, {key: objects[key]})

    monkeypatch.setattr(DiskObjects, "put_all", put_all)


def drop_leases(output):
    """Delete the leases of runs that were stopped in this process, which is alive."""
    for lease in output.glob("lease-*"):
        lease.unlink()
