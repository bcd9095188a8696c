"""What libsndfile decodes, block by block. The only file that knows soundfile.

A decoder such as MP3's, Opus's or Vorbis's has a state from one frame to the next. soundfile seeks after each block
that it reads, which spoils that state, and FLAC files with a wrong block size then cannot be read: here, a file is read
from its beginning to its end and nothing else. Then the values are those of ``soundfile.read`` for the whole file, bit
for bit, at any length of block.
"""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from mimii.features.containers import name_of
from mimii.features.messages import logged_messages
from mimii.storage import AudioError

UNKNOWN_LENGTH = -1
"""Samples of a recording whose header does not say how many there are."""

_LOUDEST = 0.9
_UNKNOWN_FRAMES = 2**63 - 1
_SOUGHT = ("WAV", "WAVEX", "RF64", "AIFF", "W64", "FLAC", "AU", "CAF")
_SOUGHT_SUBTYPES = ("FLOAT", "DOUBLE", "ULAW", "ALAW")
_PIPE_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 17

Samples = NDArray[np.float32]


class _Onward(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
    """A file that is read in one direction."""

    is_guess = False
    """Whether its number of frames is one of libsndfile."""

    def seekable(self) -> bool:
        """Return False: soundfile then does not seek after each block."""
        return False


class _Quiet:
    """A file that raises nothing while libsndfile, written in C, calls it back: exceptions would only be printed.

    Sent somewhere impossible, as damaged headers do, it stays where it is; an error of disk or archive is kept.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell
        self.error: OSError | AudioError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self._file.tell()

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, AudioError) as error:
            self.error = error
            return b""


@contextmanager
def open_sound(file: BinaryIO) -> Iterator[soundfile.SoundFile]:
    """Open a file to decode it from its first sample on; `n_frames` says how many there are.

    Raises
    ------
    AudioError
        If libsndfile does not know it, or cannot decode it further.

    """
    file.seek(0)
    quiet = _Quiet(file)
    try:
        with logged_messages(name_of(file)), _open(quiet) as sound:
            if str(sound.subtype).startswith("MPEG_LAYER"):
                with _open_mpeg(sound, quiet) as mpeg:
                    yield mpeg
            else:
                yield sound
    except soundfile.LibsndfileError as error:
        msg = f"not audio, or damaged at its beginning (libsndfile: {_words(error)})"
        raise quiet.error or AudioError(msg) from error
    if quiet.error:
        raise quiet.error


def _open(file: _Quiet) -> soundfile.SoundFile:
    try:
        return _Onward(file)
    except TypeError as error:  # of a file that is taken for one without a header
        msg = f"not audio, or damaged at its beginning (libsndfile: {error})"
        raise file.error or AudioError(msg) from error


def is_seekable(file: BinaryIO) -> bool:
    """Return whether libsndfile can seek in a file; librosa and soundfile read no other by its name."""
    with open_sound(file) as sound:
        return bool(super(_Onward, sound).seekable())


def n_frames(sound: soundfile.SoundFile) -> int:
    """Return samples of each channel; `UNKNOWN_LENGTH` where only decoding can tell."""
    return UNKNOWN_LENGTH if sound.is_guess or sound.frames == _UNKNOWN_FRAMES else sound.frames


def can_seek(sound: soundfile.SoundFile) -> bool:
    """Say whether a file can be decoded from any frame on: other decoders have a state from before."""
    is_exact = sound.format in _SOUGHT and (sound.subtype in _SOUGHT_SUBTYPES or sound.subtype.startswith("PCM"))
    return is_exact and n_frames(sound) != UNKNOWN_LENGTH


@contextmanager
def open_at(file: BinaryIO, frame: int) -> Iterator[tuple[soundfile.SoundFile, int]]:
    """Open a file at a frame, or at its beginning where no other is exact; yield also where it stands."""
    with open_sound(file) as sound:
        if not frame or not can_seek(sound):
            yield sound, 0
            return
        if _seek(sound, frame):
            yield sound, frame
            return
    with open_sound(file) as sound:
        yield sound, 0


def _seek(sound: soundfile.SoundFile, frame: int) -> bool:
    try:
        return int(sound.seek(frame)) == frame
    except soundfile.LibsndfileError:  # a damaged FLAC, which may still be decoded from its beginning
        return False


def read_frames(sound: soundfile.SoundFile, start: int = 0) -> Iterator[Samples]:
    """Yield blocks of all channels, shape (any, n_channels), from `start` on, where the file stands, to the end.

    Each is gone with the next.

    Raises
    ------
    AudioError
        If it cannot be decoded further.

    """
    block = np.empty((max(_BLOCK_BYTES // (4 * sound.channels), 1), sound.channels), np.float32)
    done = start
    try:
        # Not beyond what is promised: where something else is behind, FLAC loses all of the last block.
        while len(frames := sound.read(out=block[: sound.frames - done])):
            yield frames
            done += len(frames)
    except soundfile.LibsndfileError as error:
        msg = f"damaged: it cannot be decoded beyond {done} samples (libsndfile: {_words(error)})"
        raise AudioError(msg) from error
    if sound.is_guess and done >= sound.frames:
        msg = f"damaged: it does not say how long it is, and may have more than {done} samples"
        raise AudioError(msg)


@contextmanager
def _open_mpeg(sound: soundfile.SoundFile, file: _Quiet) -> Iterator[soundfile.SoundFile]:
    """Yield MPEG audio that says how long it is as it was opened, other as a stream.

    Of a file that can seek, libsndfile guesses the length and decodes no more than that. Of a stream it does not, but
    some that are damaged it opens only as a file that can seek.
    """
    try:
        with _piped(file) as stream:
            is_known = stream.frames != _UNKNOWN_FRAMES
    except soundfile.LibsndfileError:
        is_known = sound.is_guess = True
    if is_known:
        sound.seek(0)  # as soundfile.read does: it changes the last bit of what mpg123 decodes
        yield sound
        return
    with _piped(file) as stream:
        yield stream


@contextmanager
def _piped(file: _Quiet) -> Iterator[soundfile.SoundFile]:
    """Open a file as a stream; afterwards it stands where it stood."""
    place = file.tell()
    file.seek(0)
    end, start = os.pipe()
    feeder = threading.Thread(target=_feed, args=(file, start), daemon=True)
    feeder.start()
    try:
        with _Onward(end) as sound:  # closes its end of the pipe
            yield sound
    finally:
        feeder.join()
        file.seek(place)


def _feed(file: _Quiet, start: int) -> None:
    with io.FileIO(start, "w") as pipe:
        try:
            while data := memoryview(file.read(_PIPE_BYTES)):
                while data:
                    data = data[pipe.write(data) :]
        except BrokenPipeError:
            pass  # no more was wanted


def encode_flac(samples: Samples, sample_rate: int, peak: float = 0.0, bits: int = 16) -> bytes:
    """Write samples as a FLAC file of 16 bits, as loud as it can be, for people to listen to.

    Parameters
    ----------
    samples : ndarray of float32, shape (n_samples,)
        Any scale.
    sample_rate : int
        Hz.
    peak : float
        Which sample is as loud as can be; the loudest one where it is left out. Sounds with one peak compare.
    bits : int
        How many of the 16 bits are not 0: of noise, a file with fewer is smaller.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    AudioError
        If FLAC does not have this sample rate.

    """
    file = io.BytesIO()
    peak = peak or float(np.abs(samples).max(initial=0)) or 1.0
    try:
        soundfile.write(file, _to_int16(samples / peak * _LOUDEST, bits), sample_rate, format="FLAC", subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        msg = f"FLAC does not take {sample_rate} Hz"
        raise AudioError(msg) from error
    return file.getvalue()


def _to_int16(samples: Samples, bits: int) -> NDArray[np.int16]:
    """Round samples to multiples of ``2**(16 - bits)``."""
    step = 1 << (16 - bits)
    return np.round(samples * np.float32(32_767 // step)).astype(np.int16) * np.int16(step)


def _words(error: Exception) -> str:
    words: str = getattr(error, "error_string", str(error)).strip().rstrip(".")
    # What libsndfile says where its decoder of MPEG audio gives up has nothing to do with it.
    return "no MPEG audio that can be decoded" if "possibly a pipe" in words else words
