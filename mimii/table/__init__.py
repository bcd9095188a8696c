"""Rows to Zarr and back: plan a table, write its shards, read it.

Which rows each clip fills is pure arithmetic (`plan`). One task writes one whole shard (`shards`, `encoding`) and its
record; the group, the columns and the statistics are written when all shards are there (`store`, `metadata`). `columns`
lists the arrays, `reading` reads them, `make` is the front door.

It may import `mimii.engine` and all rooms below it. Other rooms may use what ``__init__.pyi`` lists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
