"""Tables that grow: whatever comes, goes, changes or is relabelled, in whatever order, and wherever a run is killed."""

import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import mimii
from mimii.features import FeatureSpec
from mimii.storage import DiskObjects
from tests.helpers.commands import assert_same_bytes, open_table
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


NAMES = st.sampled_from([f"{number:08d}" for number in range(7)])
CHANGES = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(0, 2), st.sampled_from(LENGTHS)),
    st.tuples(st.just("delete"), NAMES),
)
STEPS = st.lists(
    st.tuples(st.lists(CHANGES, min_size=1, max_size=4), st.booleans(), st.one_of(st.none(), st.integers(0, 40))),
    min_size=1,
    max_size=5,
)


def apply_changes(factory, changes):
    for kind, name, *how in changes:
        if kind == "write":
            factory.write(name, 1000 * int(name) + how[0], how[1])
        elif name in factory.contents:
            factory.delete(name)


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


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_sequence_with_kills_leaves_the_bytes_of_the_same_sequence_undisturbed(steps):
    with tempfile.TemporaryDirectory() as scratch:
        factory = Factory(Path(scratch))
        disturbed, undisturbed = Path(scratch, "disturbed"), Path(scratch, "undisturbed")
        for changes, _, kill in steps:
            apply_changes(factory, changes)
            if not factory.contents and not disturbed.exists():
                continue
            if kill is not None:
                with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
                    dying_at(patch, kill)
                    update(factory, disturbed)
                for lease in disturbed.glob("lease-*"):  # of this process, which is alive
                    lease.unlink()
            update(factory, disturbed)
            update(factory, undisturbed)
            assert_same_bytes(disturbed, undisturbed)
            check_against(factory, disturbed)
