"""Why a recording cannot be used, without its path."""


class AudioError(ValueError):
    """A recording that cannot be used; the message is the reason."""


def missing_channel(channel: int, n_channels: int) -> str:
    """Return the reason of a recording that lacks a channel."""
    return f"no channel {channel}: the recording has {n_channels}, counted from 0"


def unreadable(error: OSError) -> str:
    """Return the reason of a file that cannot be read."""
    return f"cannot be read: {error.strerror or error}"


def is_unreadable(problem: str) -> bool:
    """Say whether a reason is that of a file that cannot be read, and not of what is in it."""
    return problem.startswith(unreadable(OSError(0, " ")).rstrip())


def printable(text: str) -> str:
    """Escape what might move the cursor or change colours: names in an archive may contain anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
