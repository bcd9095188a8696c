"""What the README promises: its first command, its code, and all of its options."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xarray

from jobs import detect, featurize, fetch, render, verify

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run `make demo` with the Python that runs the tests; return where it put things, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    command = [
        "make",
        "--no-print-directory",
        "demo",
        f"BIN={Path(sys.executable).parent}",
        f"DEMO={folder}",
        "--old-file=.venv/ready",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def code_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_demo_makes_a_table_of_160_good_clips(demo):
    folder, _ = demo
    table = xarray.open_zarr(folder / "features.zarr")
    assert table.sizes == {"row": 160 * 309, "feature": 320, "clip": 160}
    assert set(table.status.values) == {"ok"}
    assert set(table.machine_type.values) == {"fan", "pump", "slider", "valve"}
    assert (table.label.values == 1).sum() == 40
    assert ((table.split == "test") & (table.label == 0)).sum() == 40


def test_the_demo_ends_with_the_line_that_opens_the_table(demo):
    folder, said = demo
    names: dict[str, object] = {}
    exec(said.strip().splitlines()[-1].strip(), names)  # noqa: S102  it is what the user is told to type
    assert names["table"].sizes["clip"] == 160
    assert str(folder / "features.zarr") in said


@pytest.mark.parametrize("block", range(2))
def test_code_of_the_readme_runs_on_the_demo(demo, block):
    code = code_blocks()[block]
    if "torch" in code and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    folder, _ = demo
    code = code.replace("data/demo", str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_option_and_no_other():
    helps = (job.make_parser().format_help() for job in (detect, featurize, fetch, render, verify))
    options = {option for text in helps for option in re.findall(r"--[a-z][a-z-]*", text)}
    named = set(re.findall(r"--[a-z][a-z-]*", README))
    assert options - {"--help"} <= named
    assert named <= options | {"--clips", "--job", "--kills"}


def test_no_placeholder_is_left_in_the_readme():
    assert not re.findall(r"\b[A-Z]+_[A-Z]+\b", re.sub(r"MIMII_TEST_RECORDINGS|AWS_[A-Z_]+", "", README))


def test_every_file_of_the_readme_is_there():
    for name in re.findall(r"`((?:jobs|mimii|notebooks)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name
    assert all(os.path.exists(ROOT / picture) for picture in re.findall(r"!\[.*?\]\((.*?)\)", README))
