"""The steps of the bag: what of a clip is in memory, and for how long."""

import weakref
from functools import partial

import pytest

import mimii
from mimii.engine import steps
from mimii.features import recording
from tests.helpers.commands import output_at, plan_table
from tests.helpers.recordings import write_clip


@pytest.fixture
def alive(monkeypatch):
    """Return how many of what opens recordings are alive whenever the next one is waited for."""
    opened, alive = [], []

    def open_all(wanted, _):
        for one in wanted:
            alive.append(sum(opener() is not None for opener in opened))
            opener = partial(open, one.place.url, "rb")
            opened.append(weakref.ref(opener))
            yield opener
            del opener

    monkeypatch.setattr(steps, "open_all", open_all)
    return alive


def test_what_opened_a_recording_is_gone_before_the_next_one_is_waited_for(tmp_path, alive):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 16_000)
    task = output_at(plan_table(tmp_path / "raw"), tmp_path / "out").task(0)
    assert [clip.value.shape for clip in steps.compute_spectrograms(task)] == [(32, 64)] * 4
    assert alive == [0] * 4


def test_what_opened_a_segment_is_gone_before_the_next_one_is_waited_for(tmp_path, alive, monkeypatch):
    monkeypatch.setattr(recording, "is_remote", lambda _: True)  # segments of an object are fetched one by one
    write_clip(tmp_path / "raw" / "a.wav", 1, 64_000)
    clips = mimii.find_recordings(tmp_path / "raw")
    plan = mimii.plan_table(clips, mimii.FeatureSpec(segment=1.0), split="none")
    task = output_at(plan, tmp_path / "out").task(0)
    assert [clip.value.shape for clip in steps.compute_spectrograms(task)] == [(32, 64)] * 4
    assert alive == [0] * 4
