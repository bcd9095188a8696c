"""A mix of versions is refused with a table of what differs."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed.versions import get_versions

from mimii.engine.versions import (
    PACKAGES,
    MixError,
    check_code,
    check_versions,
    code_here,
    make_code_asker,
    select_versions,
)

CODE = code_here()
HERE = {"python": "3.11", "dask": "2026.8.0", "distributed": "2026.8.0", "numpy": "2.4.6", "zarr": "3.1.6"}


def workers(n_workers, **other):
    return {f"tcp://10.0.0.{number}:40000": HERE | other for number in range(1, n_workers + 1)}


def refusal(*parts):
    with pytest.raises(MixError) as raised:
        check_versions(*parts)
    return str(raised.value)


def test_a_cluster_of_one_kind_is_good():
    check_versions(HERE, dict(HERE), workers(3))
    check_versions(HERE, HERE, {})


@pytest.mark.parametrize("name", HERE)
def test_each_version_counts_on_workers_and_scheduler(name):
    assert name in refusal(HERE, HERE, workers(2) | {"tcp://10.0.0.9:1": HERE | {name: "0.1"}})
    assert name in refusal(HERE, HERE | {name: "0.1"}, workers(2))


def test_the_table_has_what_differs_and_nothing_else():
    message = refusal(HERE, HERE | {"dask": "2026.7.0"}, workers(2) | {"tls://10.0.0.9:1": HERE | {"zarr": "3.2"}})
    assert message.splitlines() == [
        "the parts of the cluster have different versions:",
        "        here      scheduler  2 workers, as tcp://10.0.0.1:40000  tls://10.0.0.9:1",
        "  dask  2026.8.0  2026.7.0   2026.8.0                            2026.8.0",
        "  zarr  3.1.6     3.1.6      3.1.6                               3.2",
        "Use the same everywhere: one image, built of the Dockerfile, or one constraints.txt and one copy of the code",
    ]


def test_kinds_of_workers_that_are_as_many_have_a_column_each():
    three = {f"tcp://10.0.1.{number}:1": HERE | {"numpy": "2.3"} for number in range(3)}
    others = {f"tcp://10.0.2.{number}:1": HERE | {"numpy": "2.2"} for number in range(3)}
    message = refusal(HERE, HERE, three | others)
    assert "3 workers, as tcp://10.0.1.0:1" in message
    assert "3 workers, as tcp://10.0.2.0:1" in message
    assert "2.3" in message
    assert "2.2" in message


def test_what_dask_reports_becomes_versions():
    versions = select_versions(get_versions(packages=PACKAGES))
    assert list(versions) == ["python", *PACKAGES]
    assert versions["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert versions["numpy"] == np.__version__
    assert versions["zarr"] == zarr.__version__


def test_the_patch_level_of_python_does_not_count_and_missing_packages_do():
    told = {"packages": {"python": "3.12.1.final.0", "dask": "1", "distributed": "2", "numpy": "3", "zarr": None}}
    assert select_versions(told) == {"python": "3.12", "dask": "1", "distributed": "2", "numpy": "3", "zarr": "missing"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a project that is found before this one."""
    for package in ("mimii", "jobs"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f'"""{package}"""')
    for name in [name for name in sys.modules if name.split(".")[0] in {"mimii", "jobs"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_code_is_known_by_its_bytes(project):
    ask = make_code_asker()
    before = ask()
    assert before == ask()
    assert before != CODE
    (project / "jobs/__init__.py").write_text('"""jobs, changed"""')
    changed = ask()
    (project / "mimii/new.py").write_text("")
    assert len({before, changed, ask()}) == 3
    (project / "README.md").write_text("not code")
    assert len({before, changed, ask()}) == 3


def test_where_the_project_is_not_installed_it_is_missing(project, monkeypatch):
    ask = make_code_asker()
    monkeypatch.setattr(sys, "path", [str(project / "nowhere")])
    monkeypatch.setattr(
        sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
    )
    assert ask() == "missing"


def test_the_same_code_is_good_and_other_code_is_named():
    check_code(CODE)
    with pytest.raises(MixError, match=rf"a worker has {CODE} of sound-features, and the job code 0+\. Use the"):
        check_code("code 00000000")


def test_the_refusal_survives_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(MixError("a worker has other code")))
    assert str(error) == "a worker has other code"


def test_the_code_of_this_process_is_that_of_this_project():
    assert Path(sys.modules["mimii.engine.versions"].__file__).parents[2] == Path(__file__).parents[2]
    assert CODE == code_here() == make_code_asker()()
