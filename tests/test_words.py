"""What users read: no words that must be read twice, and counts that agree with their nouns."""

import ast
import re

import pytest

from tests.helpers.commands import ROOT

FILES = sorted(path for room in ("mimii", "jobs") for path in (ROOT / room).rglob("*.py"))
UNWANTED = re.compile(
    r"\b(mend(s|ed)?|go on|goes on|whoever|things?|killers?|held|stretch(es)?|ended|heard|knock(s|ed)?|patience"
    r"|in vain|say which|says which|a trap|what is alike|meant is)\b",
    re.IGNORECASE,
)
NOUNS = "clip|recording|shard|image|machine|archive|worker|task|event|process|batch|finding|channel|file|round|thread"
NOT_COUNTED = re.compile(rf"(?<!of )(?<!its )(\{{\}}|%d) ({NOUNS})e?s\b(?!/)|\w\(e?s\)|\b1 \w+s (are|have)\b")
"""A number in front of a plural, which 1 makes wrong; of a total, it passes. `numbered` writes both."""


def texts(path):
    """Return the strings of a file that have two words or more, and no docstrings; {} stands for values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    formatted = {id(node): node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    left_out -= formatted.keys()
    found = (text_of(node) for node in ast.walk(tree) if id(node) not in left_out)
    return [text for text in found if " " in text.strip()]


def text_of(node):
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("text", ["{} clips are bad", "such as %d recordings", "3 clip(s)", "1 clips are there"])
def test_numbers_in_front_of_plurals_are_found(text):
    assert NOT_COUNTED.search(text)


@pytest.mark.parametrize("text", ["1 of {} clips", "{} clips/s", "time (s)", "up to {} of a recording"])
def test_shares_rates_and_units_are_none(text):
    assert not NOT_COUNTED.search(text)


def test_no_message_has_an_unwanted_word():
    found = [(path.name, text) for path in FILES for text in texts(path) if UNWANTED.search(text)]
    assert not found


def test_numbers_agree_with_their_nouns():
    found = [(path.name, text) for path in FILES for text in texts(path) if NOT_COUNTED.search(text)]
    assert not found
