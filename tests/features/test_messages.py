"""What mpg123 prints to stderr does not reach the terminal: it is in the log, with the clip's name."""

import ctypes
import logging
import subprocess
import sys
import threading

import pytest

from mimii.features import logged_messages
from tests.helpers.commands import ROOT, environment, run
from tests.helpers.odd_files import damaged_mp3s

PRINTED = ("MPEG", "mpg123", "Xing", "Note:")
LIBRARY = ctypes.CDLL(None)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for name, data in damaged_mp3s().items():
        (folder / name).write_bytes(data)
    return folder


def said_by(program, *arguments):
    """Return what a program prints to stderr."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_decoder_has_something_to_say_of_these_files(raw):
    said = said_by("import soundfile, sys; [soundfile.read(path) for path in sys.argv[1:]]", *raw.iterdir())
    assert "Illegal Audio-MPEG-Header" in said
    assert "Xing stream size off" in said


FIND = "import mimii, sys; assert len(mimii.find_recordings(sys.argv[1])) == 2"
LOG_MEL = "import mimii, sys; mimii.log_mel(sys.argv[1] + '/gap.mp3')"
LOGGED = "import logging; logging.basicConfig(level='DEBUG'); logging.getLogger('asyncio').disabled = True; "


@pytest.mark.parametrize("program", [FIND, LOG_MEL])
def test_nothing_of_it_is_seen_unless_the_log_shows_it(program, raw):
    assert said_by(program, raw) == ""
    said = said_by(LOGGED + program, raw)
    assert f"DEBUG:mimii.features.messages:{raw}/gap.mp3: Note: Illegal Audio-MPEG-Header" in said


@pytest.mark.slow
def test_commands_do_not_show_it_be_it_read_by_workers_or_by_their_process(raw, tmp_path):
    made = run("featurize", raw, "--output", tmp_path / "out", "--scheduler", "local", "--workers", 1)
    verified = run("verify", tmp_path / "out", "--against", raw, "--scheduler", "sync")
    for done in (made, verified):
        assert done.returncode in (0, 3), done.stderr
        assert not [word for word in PRINTED if word in done.stdout + done.stderr]


def test_only_the_stream_of_c_is_another_one_and_only_for_a_while(capfd, caplog):
    caplog.set_level(logging.DEBUG, "mimii")
    with logged_messages("a.mp3"):
        LIBRARY.perror(b"from C")
        print("from Python", file=sys.stderr)
    LIBRARY.perror(b"afterwards")
    said = capfd.readouterr().err
    assert "from Python" in said
    assert "afterwards" in said
    assert "from C" not in said
    assert next(message for message in caplog.messages if "from C" in message).startswith("a.mp3: from C")


def test_threads_share_the_stream_and_the_last_one_gives_it_back(capfd, caplog):
    caplog.set_level(logging.DEBUG, "mimii")
    begun, printed = threading.Event(), threading.Event()

    def decode():
        with logged_messages("b.mp3"):
            begun.set()
            printed.wait()

    thread = threading.Thread(target=decode)
    thread.start()
    begun.wait()
    with logged_messages("a.mp3"):
        LIBRARY.perror(b"of one of both")
    LIBRARY.perror(b"of the other")
    printed.set()
    thread.join()
    LIBRARY.perror(b"afterwards")
    assert [message.partition(": of")[0] for message in caplog.messages] == ["b.mp3, or a.mp3", "b.mp3"]
    assert capfd.readouterr().err.count(":") == 1
