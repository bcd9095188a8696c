"""Where the objects of a store are, below its root."""

FEATURES = "features"
RECORDS = "features/records"
ROW_CLIP = "row_clip"


def shard_name(index: int) -> str:
    """Name the object of a shard within the folder of its array.

    Parameters
    ----------
    index : int
        Which shard.

    Returns
    -------
    str
        Zarr v3's default chunk key with the separator ``.``.

    """
    return f"c.{index}.0"


def shard_key(index: int) -> str:
    """Return the key of a shard of `features`."""
    return f"{FEATURES}/{shard_name(index)}"


def row_clip_name(index: int) -> str:
    """Name the chunk of `row_clip` that goes with a shard within the folder of its array."""
    return f"c.{index}"


def row_clip_key(index: int) -> str:
    """Return the key of the chunk of `row_clip` that goes with a shard."""
    return f"{ROW_CLIP}/{row_clip_name(index)}"


def record_name(index: int) -> str:
    """Name the record of a shard within its folder."""
    return f"{index}.json"


def record_key(index: int) -> str:
    """Return the key of the record of a shard."""
    return f"{RECORDS}/{record_name(index)}"
