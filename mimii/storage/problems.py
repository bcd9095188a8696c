"""Why a recording cannot be used, in words for people and without its path."""


class AudioError(ValueError):
    """A recording that cannot be used; the message is the reason."""


def missing_channel(channel: int, n_channels: int) -> str:
    """Say that a recording lacks a channel."""
    return f"no channel {channel}: the recording has {n_channels}, counted from 0"


def unreadable(error: OSError) -> str:
    """Say why a file cannot be read."""
    return f"cannot be read: {error.strerror or error}"


def printable(text: str) -> str:
    """Write what might move the cursor or change colours as an escape sequence: archives hold any name."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
