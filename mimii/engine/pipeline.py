"""What is mapped over a bag of tasks, as data; importing it does not import Dask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dask.bag import Bag


class Pipeline(NamedTuple):
    """What is mapped over a bag of tasks.

    Attributes
    ----------
    name : str
        A short name of the steps, which Dask's dashboard shows.
    build : callable
        From the bag of tasks to a bag with one result for each of its partitions.
    reads_recordings : bool
        Whether tasks read recordings: one that kills its worker is then tried with care.

    """

    name: str
    build: Callable[[Bag], Bag]
    reads_recordings: bool = True
