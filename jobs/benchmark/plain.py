"""A pipeline without Dask: the same steps over the clips of a task, in this process."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from mimii.engine import Output


class PlainBag:
    """One partition, with the methods of a Dask bag that pipelines use; as lazy as one."""

    def __init__(self, elements: Iterable[Any]) -> None:
        self._elements = elements

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements)

    def map(self, function: Callable[[Any], Any]) -> "PlainBag":
        """Call a function for each element."""
        return PlainBag(map(function, self))

    def flatten(self) -> "PlainBag":
        """Chain elements that are iterables themselves."""
        return PlainBag(chain.from_iterable(self))

    def map_partitions(self, function: Callable[[Iterable[Any]], Iterable[Any]]) -> "PlainBag":
        """Call a function for all elements together."""
        return PlainBag(function(self))


def run_plain(output: Output, tasks: Iterable[int]) -> None:
    """Do tasks of an output, one after the other."""
    for task in tasks:
        bag: Any = PlainBag([output.task(task)])  # not a Bag by type
        list(output.pipeline.build(bag))
