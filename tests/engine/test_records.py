"""Records: they survive JSON whole or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.engine.records import Record, Stamp, Written, describe, from_json, to_json

any_text = st.text(max_size=20)
any_records = st.builds(
    Record,
    stamp=st.builds(Stamp, any_text, st.integers(0, 10**9), any_text, any_text),
    written=st.dictionaries(any_text, st.builds(Written, st.integers(0, 2**40), any_text), max_size=5),
    bad=st.dictionaries(st.integers(0, 2**31), st.text(max_size=30), max_size=5),
    unread=st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
    result=st.dictionaries(any_text, st.floats(allow_nan=False) | st.lists(st.floats(allow_nan=False)), max_size=3),
)


def some_record(**how):
    return Record(Stamp("f", 1, "i", "a"), {"features/c.1.0": Written(2, "ab")}, **how)


@given(record=any_records)
def test_a_record_survives_json_bit_for_bit(record):
    found = from_json(to_json(record))
    assert replace(found, result={}) == replace(record, result={})
    assert {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.result.items()
    } == (record.result)
    assert to_json(found) == to_json(record)


def test_a_reason_with_bytes_that_are_no_text_survives_json():
    record = some_record(bad={3: "caf\udce9 \U0001f3b5"})
    assert from_json(to_json(record)).bad == record.bad


def test_the_size_of_a_record_is_that_of_all_that_it_vouches_for():
    assert Record(Stamp("f", 1, "i", "a"), {"a": Written(2, ""), "b": Written(40, "")}).size == 42


def test_what_was_written_is_described_as_sha256sum_does():
    [(key, written)] = describe({"a": b"abc"}).items()
    assert (key, written.size) == ("a", 3)
    assert written.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


@given(record=any_records, kept=st.floats(0, 0.999))
def test_a_torn_record_is_none(record, kept):
    data = to_json(record)
    assert from_json(data[: int(len(data) * kept)]) is None


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"1", b'"text"', b"\xff\xfe", bytes(300), b'{"stamp": null}', b'{"stamp": []}']
)
def test_what_is_no_record_is_none(data):
    assert from_json(data) is None


@pytest.mark.parametrize("name", ["stamp", "written", "bad", "unread", "result"])
def test_a_record_that_lacks_something_is_none(name):
    values = json.loads(to_json(some_record()))
    del values[name]
    assert from_json(json.dumps(values).encode()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"bad": []}, {"bad": "text"}, {"bad": {"three": "why"}}, {"stamp": {"task": 1}}),
        *({"written": [1]}, {"written": {"a": 2}}, {"written": {"a": {"size": 2}}}),
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_none(wrong):
    values = json.loads(to_json(some_record())) | wrong
    assert from_json(json.dumps(values).encode()) is None
