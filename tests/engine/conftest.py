"""Recordings, and the table that a run without a cluster makes of them, for runs on clusters."""

import signal
from collections.abc import Iterator

import pytest

from tests.helpers.commands import featurize_here
from tests.helpers.recordings import write_machines


@pytest.fixture(autouse=True)
def _interrupts_are_pythons() -> Iterator[None]:
    """Have Ctrl-C do what it does in Python: modules that an earlier test imported may have taken it over."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if before is not None:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_machines(folder, 24, 160_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "table"
    assert featurize_here(raw, "--output", output, "--quiet") == 0
    return output
