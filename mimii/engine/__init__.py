"""Do what is missing: tasks, records, the Dask bag, schedulers. The only room that imports Dask.

A plan is cut into tasks, each a partition of a bag whose elements are clips (`bag`). A run (`runs`) compares the plan
with the records at an output (`outputs`, `records`), sends the missing tasks to workers some at a time
(`partitions`), connects again where the scheduler is lost, and writes what comes last. `cluster` and `schedulers` start
workers or find them. It knows neither tables nor images: those say in a few methods what is special about them.

It may import `mimii.recordings`, `mimii.features` and `mimii.storage`. Other rooms may use what ``__init__.pyi`` lists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
