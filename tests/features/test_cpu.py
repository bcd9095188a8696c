"""Which kernels compute is known and stored; an environment makes them the same on CPUs of several kinds."""

import json
import platform
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mimii.features import SAME_EVERYWHERE, kernels_here
from tests.helpers.commands import ROOT, assert_same_bytes, open_table, run, run_here
from tests.helpers.recordings import write_machines

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels are those of x86-64")


def featurized(folder, name, *options, **variables):
    output = folder / name
    arguments = (folder / "raw", "--output", output, "--scheduler", "sync", "--shard-mib", 1, "--quiet", *options)
    done = run("featurize", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return output


def kernels_of(table):
    return json.loads(open_table(table).attrs["kernels"])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    write_machines(folder / "raw", 8, n_samples=160_000)
    return folder


@pytest.fixture(scope="module")
def free(raw):
    return featurized(raw, "free")


@pytest.fixture(scope="module")
def pinned(raw):
    return featurized(raw, "pinned", **SAME_EVERYWHERE)


def test_a_table_names_the_kernels_that_computed_it(free):
    assert kernels_of(free) == [kernels_here()]
    assert re.fullmatch(r"\S+ \S+, numpy .+", kernels_here())


@x86
def test_one_environment_gives_the_same_bytes_whatever_the_cpu_would_choose(raw, free, pinned):
    assert "Haswell" in kernels_of(pinned)[0]
    values, others = (open_table(table).features.values for table in (free, pinned))
    assert np.nanmax(np.abs(values - others)) < 2e-5
    zen = featurized(
        raw, "zen", **SAME_EVERYWHERE | {"OPENBLAS_CORETYPE": "Zen"}
    )  # the same kernels under another name
    assert_same_bytes(zen, pinned)


@x86
def test_a_table_of_several_kinds_names_them_and_verify_says_so(raw, pinned):
    mixed = Path(shutil.copytree(pinned, raw / "out"))
    [first, *_] = sorted(mixed.glob("features/records/*.json"))
    first.unlink()
    featurized(raw, "out")
    expected = {kernels_here(), *kernels_of(pinned)}
    assert set(kernels_of(mixed)) == expected
    done = run_here("verify", "--scheduler", "sync", mixed, "--against", raw / "raw")
    assert done.returncode == 0, done.stdout
    assert ("computed with other kernels" in done.stdout + done.stderr) == (len(expected) > 1)


def test_the_environment_is_the_one_that_is_documented():
    guide, cluster = (ROOT / "docs/clusters.md").read_text(), (ROOT / "cluster.yaml").read_text()
    for name, value in SAME_EVERYWHERE.items():
        assert f"export {name}={value}" in guide.replace('"', "")
        assert name in cluster
        assert value in cluster
