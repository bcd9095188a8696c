"""What tests of detection share: the page has tests of its own, and drawing it takes most of the time of all others."""

from collections.abc import Iterator

import pytest

from mimii.detection import store


@pytest.fixture(scope="module")
def without_page() -> Iterator[None]:
    """Write a page that names the machines alone."""

    def name_machines(_columns, _study, results, _access) -> bytes:
        return "\n".join(machine.name for machine, _ in results).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_page", name_machines)
        yield
