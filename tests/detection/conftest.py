"""What tests of detection share: one thread, as in a run, and a page that is quick to write."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from mimii.detection import store


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Have what is learned here the bits that a run gives it, which takes one thread; with several, it takes longer."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def without_page() -> Iterator[None]:
    """Write a page that names the machines alone: it has tests of its own, and drawing it takes most of the time."""

    def name_machines(_columns, _study, results, _access) -> bytes:
        return "\n".join(machine.name for machine, _ in results).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_page", name_machines)
        yield
