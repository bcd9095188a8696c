"""Which recordings there are, what they are, and how long.

A `Clip` is one recording, or a channel or segment of one: where its bytes are, and its `Identity` as far as its path or
a CSV list says (machine, number, SNR, label, split, domain, attributes, time). `find_clips` searches folders, zip
archives and S3 prefixes; `read_list` reads a CSV list, and `read_layout` a pattern that says what paths mean where
MIMII's and DCASE's do not. Headers are read for sample rates and lengths, those that libsndfile reads in a process that
may die (`probing`). `segments` cuts recordings into clips, and a `Catalogue` holds what every job plans with. Here are
also the splits into train and test, the names of images, the archives of the MIMII data set, and synthetic recordings
like them. This room imports `features` and `storage`; other rooms use the names in ``__init__.pyi``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
