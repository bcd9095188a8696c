"""What the README promises: its first command, its code, its files; and that it is short."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import xarray

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MOST_BYTES = 8_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run `make demo` with the Python that runs the tests; return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [
        "make",
        "--no-print-directory",
        "demo",
        f"BIN={Path(sys.executable).parent}",
        f"DEMO={folder}",
        "--old-file=.venv/ready",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_demo_makes_a_table_of_160_good_clips(demo):
    folder, _ = demo
    table = xarray.open_zarr(folder / "features.zarr")
    assert table.sizes == {"row": 160 * 309, "feature": 320, "clip": 160, "mel": 64}
    assert set(table.status.values) == {"ok"}
    assert set(table.machine_type.values) == {"fan", "pump", "slider", "valve"}
    assert (table.label.values == 1).sum() == 40
    assert ((table.split == "test") & (table.label == 0)).sum() == 40


def test_the_demo_ends_with_lines_that_open_the_table_and_find_faults(demo, tmp_path):
    folder, printed = demo
    *_, opens, _, activates, detects = filter(None, map(str.strip, printed.splitlines()))
    names: dict[str, object] = {}
    exec(opens, names)  # noqa: S102  the line that users are asked to type
    assert names["table"].sizes["clip"] == 160
    assert activates == f". {Path(sys.executable).parent}/activate"
    python, *command = shlex.split(detects)
    assert (python, command[-1]) == ("python", str(folder / "features.zarr"))
    here = [sys.executable, *command, "--scheduler", "sync"]
    done = subprocess.run(here, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "machines  8 learned" in done.stdout


@pytest.mark.parametrize("block", range(len(CODE)))
def test_code_of_the_readme_runs_on_the_demo(demo, block):
    code = CODE[block]
    if "torch" in code and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    names: dict[str, Any] = {}
    exec(code.replace("data/demo", str(demo[0])), names)  # noqa: S102  the project's own README
    if "report" in names:
        assert names["report"].machines.auc.mean() > 0.9


def test_the_readme_is_short():
    assert len(README.encode()) <= MOST_BYTES


def test_the_readme_has_code():
    assert CODE


def test_every_file_of_the_readme_is_there():
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]
    names = re.findall(r"`((?:jobs|mimii|notebooks|docs)/[\w./]+)`", README)
    assert [name for name in [*links, *names] if not (ROOT / name.partition("#")[0]).exists()] == []
    assert re.search(r"!\[.+\]\(notebooks/overview\.png\)", README)
