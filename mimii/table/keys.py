"""Where the objects of a store are, below its root."""

FEATURES = "features"
RECORDS = "features/records"
ROW_CLIP = "row_clip"


def shard_key(index: int) -> str:
    """Return the key of a shard of `features`: Zarr v3's default chunk key with the separator ``.``."""
    return f"{FEATURES}/c.{index}.0"


def row_clip_key(index: int) -> str:
    """Return the key of the chunk of `row_clip` that goes with a shard."""
    return f"{ROW_CLIP}/c.{index}"
