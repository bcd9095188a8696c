"""Numbers with their nouns, as messages have them."""


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
