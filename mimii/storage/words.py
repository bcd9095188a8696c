"""Numbers with their nouns, and names that may be meant, as messages have them."""

import difflib
from collections.abc import Iterable


def numbered(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 shard``, ``2 shards``, ``2 batches``."""
    ending = "es" if noun.endswith(("ch", "ss")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def be(number: int) -> str:
    """Return the verb that fits to a number: ``is`` or ``are``."""
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    """Return the verb that fits to a number: ``has`` or ``have``."""
    return "has" if number == 1 else "have"


def did_you_mean(given: Iterable[str], names: Iterable[str]) -> str:
    """Return a question such as ``; did you mean fan and pump?``; empty where no name comes close to what was given."""
    known = list(names)
    close = dict.fromkeys(name for word in given for name in difflib.get_close_matches(word, known, 1))
    return f"; did you mean {' and '.join(close)}?" if close else ""
