"""Read damaged recordings of all kinds: each is read as libsndfile reads it by its name, or refused with a reason.

A seed draws which kind of file is damaged, and how. What is accepted must be accepted by libsndfile, too, and have its
samples bit for bit. Where a file is repaired on purpose before libsndfile has it (without a tag in front or another
file behind it, with lengths that a recorder never wrote), the repaired file is what libsndfile has to accept.

    python -m tests.fuzz --files 10000
"""

import argparse
import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from mimii.features.containers import skip_tags
from mimii.features.decode import read_header, repaired
from mimii.features.sndfile import UNKNOWN_LENGTH
from mimii.storage import AudioError
from tests.helpers.odd_files import encoded, id3v2, mp3, noise, samples_of
from tests.helpers.recordings import read_channel

KINDS = (
    *(("wav", "WAV", kind) for kind in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE")),
    *(("wav", "WAV", kind) for kind in ("ULAW", "IMA_ADPCM", "GSM610")),
    *(("wav", "WAVEX", kind) for kind in ("PCM_16", "PCM_32")),
    *(("aiff", "AIFF", kind) for kind in ("PCM_16", "FLOAT")),
    *(("flac", "FLAC", kind) for kind in ("PCM_16", "PCM_24")),
    *(("ogg", "OGG", kind) for kind in ("VORBIS", "OPUS")),
    ("mp3", "MP3", "MPEG_LAYER_III"),
    ("au", "AU", "PCM_16"),
    ("caf", "CAF", "PCM_16"),
    ("w64", "W64", "PCM_16"),
    ("wav", "RF64", "PCM_16"),
    ("wav", "RIFX", "PCM_16"),
)
_MOST_FRAMES = 2_000_000
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class _Onward(soundfile.SoundFile):
    def seekable(self) -> bool:
        return False


def whole_files() -> list[tuple[str, bytes]]:
    """Return a suffix and a whole file for each kind, all of different sound."""
    files = []
    for index, (suffix, container, subtype) in enumerate(KINDS):
        pcm = noise(index, 6000 + 100 * index)
        if container == "MP3":
            files.append((suffix, mp3(samples_of(pcm))))
        else:
            rate = 48_000 if subtype == "OPUS" else 16_000
            how = {"container": "WAV", "endian": "BIG"} if container == "RIFX" else {"container": container}
            files.append((suffix, encoded(samples_of(pcm), subtype=subtype, rate=rate, **how)))
    return files


def damage(data: bytes, draw: random.Random) -> bytes:
    """Change a file in one to three ways: bytes anywhere, or chunks and what their headers say."""
    for _ in range(draw.randint(1, 3)):
        chunks = chunks_of(data)
        ways = _ANYWHERE + _IN_CHUNKS if chunks else _ANYWHERE
        data = draw.choice(ways)(data, draw)
    return data


def chunks_of(data: bytes) -> list[tuple[int, int]]:
    """Return where each chunk of a RIFF or AIFF file begins, and where the one behind it; nothing of other files."""
    order = _ORDERS.get(data[:4])
    found, at = [], 12
    while order and at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], order)
        stop = min(at + 8 + length + length % 2, len(data))
        found.append((at, stop))
        at = stop
    return found


def _place(data: bytes, draw: random.Random) -> int:
    size = len(data)
    return draw.randrange(min(size, draw.choice((64, 200, size)))) if size else 0


def _other_byte(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(1) + data[at + 1 :]


def _extreme(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.choice(_EXTREMES).to_bytes(4, draw.choice(("little", "big"))) + data[at + 4 :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


def _less(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.randint(1, 64) :]


def _more(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.randint(1, 64)) + data[at:]


def _zeros(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + bytes(draw.randint(1, 2000)) + data[at + draw.randint(1, 2000) :]


def _doubled(data: bytes, draw: random.Random) -> bytes:
    return data + data[_place(data, draw) :]


def _tagged(data: bytes, draw: random.Random) -> bytes:
    return id3v2(draw.randint(0, 500)) + data


def _flipped_magic(data: bytes, draw: random.Random) -> bytes:
    """Flip a bit of a name: of the file, its form or a chunk."""
    names = [0, 8, *(at for at, _ in chunks_of(data))]
    at = draw.choice(names) + draw.randrange(4)
    return data[:at] + bytes(value ^ 1 << draw.randrange(8) for value in data[at : at + 1]) + data[at + 1 :]


def _other_magic(data: bytes, draw: random.Random) -> bytes:
    return draw.choice((*_ORDERS, b"riff", b"RIFF")) + data[4:]


def _other_format(data: bytes, draw: random.Random) -> bytes:
    """Change a field of the fmt chunk: tag, channels, rate, bytes a second, alignment or bits; or one of extensible."""
    at = data.find(b"fmt ") + 8
    field, width = draw.choice(((0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2), (16, 2), (18, 2), (20, 4), (24, 2)))
    value = draw.choice((0, 1, 2, 3, 4, 8, 15, 16, 17, 24, 32, 1024, 1025, 0x7FFF, 0xFFFE, 0x80000000, 0xFFFFFFFF))
    changed = (value % 256**width).to_bytes(width, _ORDERS[data[:4]])
    return data[: at + field] + changed + data[at + field + width :]


def _other_length(data: bytes, draw: random.Random) -> bytes:
    """Change the length of a chunk, or of the whole file: by a little, or to something far beyond the end."""
    at = draw.choice([4, *(at + 4 for at, _ in chunks_of(data))])
    order = _ORDERS[data[:4]]
    length = int.from_bytes(data[at : at + 4], order)
    near = (length - 1, length + 1, length + 2, length + 9, length // 2, 2 * length, len(data), len(data) - 8)
    return data[:at] + (draw.choice((*near, *_EXTREMES)) % 2**32).to_bytes(4, order) + data[at + 4 :]


def _chunk_twice(data: bytes, draw: random.Random) -> bytes:
    """Put a copy of a chunk behind another chunk."""
    (at, stop), (_, where) = draw.choice(chunks_of(data)), draw.choice(chunks_of(data))
    return data[:where] + data[at:stop] + data[where:]


def _chunk_first(data: bytes, draw: random.Random) -> bytes:
    """Put a chunk in front of all others, such as the samples before their format."""
    at, stop = draw.choice(chunks_of(data))
    return data[:12] + data[at:stop] + data[12:at] + data[stop:]


def _chunk_more(data: bytes, draw: random.Random) -> bytes:
    """Put another chunk in front of one, or at the end."""
    where = draw.choice([at for at, _ in chunks_of(data)] + [len(data)])
    name = draw.choice((*_MORE_CHUNKS, draw.randbytes(4)))
    content = draw.choice(
        (
            b"",
            b"adtllabl\x08\0\0\0\1\0\0\0abc\0",
            b"INFOISFT\x04\0\0\0sox\0",
            draw.randbytes(draw.randint(0, 30)),
            bytes(602),
        )
    )
    length = draw.choice((len(content), len(content), len(content) + draw.randint(-1, 8)))
    return data[:where] + name + (length % 2**32).to_bytes(4, _ORDERS[data[:4]]) + content + data[where:]


def _cut_at_chunk(data: bytes, draw: random.Random) -> bytes:
    at, stop = draw.choice(chunks_of(data))
    return data[: max(0, draw.choice((at, at + 4, at + 8, stop)) + draw.randint(-3, 3))]


def _body_twice(data: bytes, draw: random.Random) -> bytes:
    """Put what is in a chunk twice into it, as where a copy went wrong; its length stays."""
    at, stop = draw.choice(chunks_of(data))
    return data[:stop] + data[at + 8 : stop] + data[stop:]


def _other_long_length(data: bytes, draw: random.Random) -> bytes:
    """Change a length of RF64's ds64 chunk: of the file, of the samples, how many samples, how many more."""
    at = data.find(b"ds64")
    if at < 0:
        return _other_length(data, draw)
    at += 8 + draw.choice((0, 8, 16, 24))
    value = draw.choice((0, 1, 1000, len(data), 2**31, 2**32 - 1, 2**32, 2**62, 2**63, 2**64 - 1))
    return data[:at] + value.to_bytes(8, "little") + data[at + 8 :]


_ORDERS = {b"RIFF": "little", b"RF64": "little", b"BW64": "little", b"RIFX": "big", b"FORM": "big"}
_MORE_CHUNKS = tuple(b"LIST JUNK bext fact cue smpl inst PEAK iXML PAD afsp data fmt ds64 id3 RIFF zzzz".split())
_MORE_CHUNKS = tuple(name.ljust(4) for name in _MORE_CHUNKS)
_ANYWHERE = (_other_byte, _extreme, _cut, _less, _more, _zeros, _doubled, _tagged)
_IN_CHUNKS = (
    *(_flipped_magic, _other_magic, _other_format, _other_length, _chunk_twice, _chunk_first, _chunk_more),
    *(_cut_at_chunk, _body_twice, _other_long_length),
)


def read_by_name(path: Path) -> np.ndarray | str:
    """Return the first channel as libsndfile decodes it, or why it does not."""
    try:
        with soundfile.SoundFile(path) as sound:
            is_small = sound.frames < _MOST_FRAMES
        if is_small and sound_is_seekable(path):
            return soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0]
        with _Onward(path) as sound:
            blocks = [np.empty(0, np.float32)]
            while len(block := sound.read(4096, dtype="float32", always_2d=True)):
                blocks.append(block[:, 0])
            return np.concatenate(blocks)
    except (soundfile.LibsndfileError, TypeError, ValueError, MemoryError) as error:
        return f"refused: {error}"


def sound_is_seekable(path: Path) -> bool:
    """Return whether libsndfile can read it all at once: soundfile.read seeks to its beginning first."""
    with soundfile.SoundFile(path) as sound:
        try:
            sound.seek(0)
        except soundfile.LibsndfileError:
            return False
    return True


def read_ours(path: Path) -> np.ndarray | str:
    """Return the first channel as this project reads it, or the reason that a table would have."""
    try:
        with path.open("rb") as file:
            return read_channel(file, 0)[1]
    except AudioError as error:
        return str(error)


def judge(ours: np.ndarray | str, theirs: np.ndarray | str) -> str:
    """Say what came of a file in a few words; those that begin with DIFFERENT are wrong."""
    if isinstance(ours, str):
        return "both refuse" if isinstance(theirs, str) else f"only ours refuses: {ours.split(':')[0].split('(')[0]}"
    if isinstance(theirs, str):
        return "DIFFERENT: only libsndfile refuses"
    return "the same" if ours.tobytes() == theirs.tobytes() else "DIFFERENT: samples"


def compare(data: bytes, suffix: str, folder: Path) -> str:
    """Read a file as we do and as libsndfile does, and say what came of it; where it was repaired, also after that."""
    whole = write(folder / f"whole.{suffix}", data)
    plain = write(folder / f"plain.{suffix}", data[skip_tags(io.BytesIO(data)) :])  # a tag is counted as samples
    ours = read_ours(whole)
    verdict = judge(ours, read_by_name(plain))
    if not verdict.startswith("DIFFERENT"):
        return verdict
    view = repaired(io.BytesIO(data))
    view.seek(0)
    if (changed := view.read()) != plain.read_bytes():
        again = judge(ours, read_by_name(write(folder / f"repaired.{suffix}", changed)))
        verdict = again if again.startswith("DIFFERENT") else f"{again}, once it is repaired"
    if verdict.startswith("DIFFERENT") and read_header(io.BytesIO(data)).n_samples == UNKNOWN_LENGTH:
        return "another length, which was never written"
    return verdict


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def fuzz(n_files: int, seed: int, keep: Path | None = None) -> Counter[str]:
    """Read so many damaged files; return how often what came of it. Those that differ are kept, where asked."""
    files, found = whole_files(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_files):
            draw = random.Random(f"{seed} {number}")
            suffix, data = files[number % len(files)]
            damaged = damage(data, draw)
            verdict = compare(damaged, suffix, Path(folder))
            found[verdict] += 1
            if keep and verdict.startswith("DIFFERENT"):
                write(keep / f"{seed}-{number}.{suffix}", damaged)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 where a file was read differently."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where files that are read differently go")
    options = parser.parse_args(arguments)
    found = fuzz(options.files, options.seed, options.keep)
    for verdict, count in found.most_common():
        print(f"{count:>7,}  {verdict}")
    return int(any(verdict.startswith("DIFFERENT") for verdict in found))


if __name__ == "__main__":
    sys.exit(main())
