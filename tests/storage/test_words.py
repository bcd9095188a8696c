"""Numbers with their nouns, and names that may be meant."""

import pytest

from mimii.storage import be, did_you_mean, have, numbered


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "shard", "1 shard is"),
        (2, "batch", "2 batches are"),
        (0, "glass", "0 glasses are"),
        (5_000, "clip", "5,000 clips are"),
    ],
)
def test_a_number_agrees_with_its_noun_and_verb(number, noun, words):
    assert f"{numbered(number, noun)} {be(number)}" == words
    assert have(number) == ("has" if number == 1 else "have")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["fam"], "; did you mean fan?"),
        (["fam", "pumps", "fann"], "; did you mean fan and pump?"),
        (["fam", "compressor"], "; did you mean fan?"),
        (["compressor"], ""),
        ([], ""),
    ],
)
def test_names_that_come_close_are_asked_for_once_each(given, words):
    assert did_you_mean(given, iter(["pump", "fan", "valve"])) == words
