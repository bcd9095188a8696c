"""Where the objects of a store are, below its root."""

FEATURES = "features"
RECORDS = "features/records"
MEL = "features/mel"
ROW_CLIP = "row_clip"


def shard_key(index: int) -> str:
    """Return the key of a shard of `features`: Zarr v3's default chunk key with the separator ``.``."""
    return f"{FEATURES}/c.{index}.0"


def row_clip_key(index: int) -> str:
    """Return the key of the chunk of `row_clip` that goes with a shard."""
    return f"{ROW_CLIP}/c.{index}"


def mel_key(index: int, fingerprint: str) -> str:
    """Return the key of the mel statistics of the clips of a shard; it says what the shard is made of."""
    return f"{MEL}/{index}-{fingerprint}"


def metadata_key(name: str) -> str:
    """Return the key of the metadata of an array."""
    return f"{name}/zarr.json"


def intent_key(index: int) -> str:
    """Return the key of the record of a shard that is about to be replaced."""
    return f"{RECORDS}/{index}.next.json"
