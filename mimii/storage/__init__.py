"""Bytes anywhere: files on a disk, objects on S3, members of zip archives, and files on web servers.

Recordings, tables and models are read and written through this room, with the same functions for a disk and for
S3. It knows where bytes are (`Place`), how to read them (`open_all`, `open_part`), how to write whole objects that no
reader ever sees half written (`Objects`), and how to download a large file that breaks off (`download`, `transfer`).
It does not know what the bytes mean: samples, rows and records are the business of other rooms.

It imports no other room. ``__init__.pyi`` lists the names that other rooms may use; each is imported when it is first
used, and `requests`, `s3fs` and `isal` only when bytes are read with them, so that a worker that reads files from a
disk pays for none of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
