"""The front door: its ten lines run as they are documented, and importing it costs next to nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
from distributed import Client, LocalCluster

import mimii
from tests.helpers.commands import ROOT, librosa_rows
from tests.helpers.dask_processes import NO_DASHBOARD
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import rclone_server

LINES = """
clips = mimii.find_recordings("s3://factory/raw")
spec = mimii.FeatureSpec.preset("explore", n_mels=128)
decibel = mimii.log_mel("press.wav", spec)
plan = mimii.plan_table(clips, spec, split="stratified")
table = mimii.featurize(plan, "features.zarr", client=client)
ds = mimii.open_table("features.zarr")
batches = [batch for batch in mimii.batches("features.zarr", split="train")]
report = mimii.detect("features.zarr"); machines = report.machines; scored = report.clips
scores = mimii.score("night/", models=report)
verdict = mimii.verify("features.zarr", against=clips)
"""


@pytest.fixture
def factory(tmp_path, monkeypatch, use):
    """Serve a bucket with 16 clips of two machines; put a press and a night of recordings on disk, and work there."""
    write_machines(tmp_path / "objects/factory/raw", 16)
    write_clip(tmp_path / "press.wav", seed=99)
    write_machines(tmp_path / "night", 4)
    monkeypatch.chdir(tmp_path)
    with rclone_server(tmp_path / "objects") as server:
        use(server)
        yield tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("factory")
def test_the_ten_lines_run_as_they_are_documented():
    with LocalCluster(n_workers=1, **NO_DASHBOARD) as cluster, Client(cluster) as client:
        names = {"mimii": mimii, "client": client}
        exec(LINES, names)  # noqa: S102  the project's own lines
    assert len(names["clips"]) == 16
    assert names["decibel"].shape == (32, 128)
    assert names["ds"].sizes["clip"] == 16
    assert sum(len(batch.label) for batch in names["batches"]) == (names["ds"].split == "train").values.sum() * 28
    assert set(names["machines"].machine) == {"fan-id_00-6dB", "fan-id_02-6dB"}
    assert (names["scores"].clips.status == "ok").all()
    assert not names["verdict"].findings


def test_log_mel_is_what_a_table_holds(tmp_path):
    path = write_clip(tmp_path / "press.wav", seed=3)
    decibel = mimii.log_mel(path)
    rows = librosa_rows(path)
    np.testing.assert_allclose(np.array([decibel[t : t + 5].ravel() for t in range(len(rows))]), rows, atol=1e-3)


def test_every_public_name_is_there_and_documented():
    for name in mimii.__all__:
        assert getattr(mimii, name).__doc__ if name != "__version__" else mimii.__version__


def test_importing_it_loads_nothing_heavy():
    heavy = ("numpy", "dask", "zarr", "scipy", "xarray")
    script = f"import sys, mimii; print([name for name in {heavy} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_workers_load_nothing_that_kernels_do_not_need():
    """A worker imports what a task is pickled with: the steps of the bag, and the kernels of shards and scores."""
    heavy = ("librosa", "numba", "zarr", "matplotlib", "xarray", "pandas", "sklearn", "scipy.stats", "s3fs", "requests")
    script = (
        "import sys, mimii.engine.partitions, mimii.table.shards, mimii.images.batch, mimii.detection.new_recordings; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
