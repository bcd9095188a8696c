"""Run the notebooks: in tests, and to renew the outputs that are in them, ``python -m tests.notebooks [NAME ...]``."""

import copy
import functools
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.helpers.commands import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SWITCH = 'RECORDINGS = "made"'
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_SECONDS_A_CELL = 240


class ThisPython(AsyncKernelManager):
    """Starts the Python that runs this, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        quiet = "--log-level=ERROR"  # it listens on loopback, and would warn of that
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", quiet])


@functools.cache
def read(name: str) -> NotebookNode:
    """Return a notebook as it is in the project: to be looked at, not to be changed."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_notebook(
    name: str, root: Path, recordings: Path | None = None, instead: Mapping[str, str] = MappingProxyType({})
) -> NotebookNode:
    """Run a notebook from top to bottom in a folder of its own, on other recordings where these are given.

    What is to be there `instead` of some code makes a run shorter; it has to be there.
    """
    notebook = copy.deepcopy(read(name))
    switch = code_cells(notebook)[0]
    assert switch.source.startswith(SWITCH)
    if recordings is not None:
        switch.source = f"RECORDINGS = {str(recordings)!r}"
    for code, other in instead.items():
        assert any(code in cell.source for cell in code_cells(notebook)), code
        for cell in code_cells(notebook):
            cell.source = cell.source.replace(code, other)
    (root / "notebooks").mkdir(exist_ok=True)
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        timeout=_SECONDS_A_CELL,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(root / "notebooks")}},
    )
    variables = {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(root / "ipython"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return client.execute(env=os.environ | variables)


def renew(name: str) -> None:
    """Run a notebook on made recordings, and keep what came out."""
    with tempfile.TemporaryDirectory() as root:
        notebook = run_notebook(name, Path(root))
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NOTEBOOKS:
        renew(chosen)
