"""Progress: plain lines in a log file, a bar on a terminal, nothing where that is asked for."""

import io
import re

import pytest

from jobs.progress import Bar, Lines, show_progress
from mimii.engine import SILENT, Cluster

CLUSTER = Cluster(None, 3, "http://127.0.0.1:8787/status")


@pytest.fixture
def lines():
    """Return what writes a line for each advance, and where these go."""
    stream = io.StringIO()
    return Lines("batch", 1, stream, interval=0), stream


def test_each_line_has_clips_done_and_bad_ones(lines, capsys):
    shown, stream = lines
    shown.start(2, 10, CLUSTER)
    shown.advance(4, [7])
    shown.advance(6, [7, 8])
    shown.end()
    assert capsys.readouterr().err == "2 batches on 3 workers, dashboard http://127.0.0.1:8787/status\n"
    first, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"4/10 clips, \d+ clips/s, \d+ s left, 2 bad", first)
    assert re.fullmatch(r"10/10 clips, \d+ clips/s, 0 s left, 3 bad", last)


def test_another_connection_counts_on_from_the_first(lines):
    shown, stream = lines
    shown.start(2, 10, CLUSTER)
    shown.advance(4, [])
    shown.start(1, 6, CLUSTER)
    shown.advance(6, [])
    assert stream.getvalue().splitlines()[-1].startswith("10/10 clips")


def test_lines_are_seconds_apart_but_the_last_one_is_always_there():
    stream = io.StringIO()
    shown = Lines("shard", 0, stream, interval=1000)
    shown.start(10, 10, CLUSTER)
    for _ in range(10):
        shown.advance(1, [])
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["10/10"]


def test_what_shows_progress_depends_on_the_place(monkeypatch):
    assert show_progress("shard", quiet=True) is SILENT
    for is_terminal, kind in ((True, Bar), (False, Lines)):
        monkeypatch.setattr("sys.stderr.isatty", lambda is_terminal=is_terminal: is_terminal)
        assert isinstance(show_progress("shard", quiet=False), kind)


def test_a_bar_that_was_never_started_ends_in_silence(capsys):
    Bar("shard").end()
    assert capsys.readouterr().err == ""
