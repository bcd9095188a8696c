"""Whether a finished table is complete and correct, alone or against its recordings.

`verify` does all checks and returns a `Verdict`; each fault is a `Finding`. Metadata and columns are
compared with each other first; then each shard with its record, its checksums and its rows, read through zarr, which
did not write them; then clips drawn at random with the rows that librosa computes from their recordings. Where it is
asked for, machines are compared with the counts that MIMII publishes. Nothing is changed. This room may import all
rooms below it, and is the only one that imports librosa; ``__init__.pyi`` lists the names that others may use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
