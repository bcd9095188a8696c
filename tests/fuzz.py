"""Read damaged recordings of all kinds: each is read as libsndfile reads it by its name, or refused with a reason.

A seed draws which kind of file is damaged, and how. What is accepted must have the samples of libsndfile bit for bit.

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
from mimii.features.decode import read_channel, read_header
from mimii.features.sndfile import UNKNOWN_LENGTH
from mimii.storage import AudioError
from tests.helpers.odd_files import encoded, id3v2, mp3, noise, samples_of

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
            files.append((suffix, encoded(samples_of(pcm), container, subtype, rate)))
    return files


def damage(data: bytes, draw: random.Random) -> bytes:
    """Change a file in one to three ways."""
    for _ in range(draw.randint(1, 3)):
        changed, size = bytearray(data), len(data)
        at = draw.randrange(min(size, draw.choice((64, 200, size)))) if size else 0
        way = draw.randrange(8)
        if way == 0:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif way == 1:
            changed[at : at + 4] = draw.choice(_EXTREMES).to_bytes(4, draw.choice(("little", "big")))
        elif way == 2:
            changed = changed[:at]
        elif way == 3:
            del changed[at : at + draw.randint(1, 64)]
        elif way == 4:
            changed[at:at] = draw.randbytes(draw.randint(1, 64))
        elif way == 5:
            changed[at : at + draw.randint(1, 2000)] = bytes(draw.randint(1, 2000))
        elif way == 6:
            changed += changed[at:]
        else:
            changed = bytearray(id3v2(draw.randint(0, 500))) + changed
        data = bytes(changed)
    return data


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
        return "only libsndfile refuses"
    if len(ours) > len(theirs) and np.array_equal(ours[: len(theirs)], theirs):
        return "ours has more, of a length that was never written"
    return "the same" if ours.tobytes() == theirs.tobytes() else "DIFFERENT"


def fuzz(n_files: int, seed: int, keep: Path | None = None) -> Counter[str]:
    """Read so many damaged files; return how often what came of it. Those that differ are kept, where asked."""
    files, found = whole_files(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_files):
            draw = random.Random(f"{seed} {number}")
            suffix, data = files[number % len(files)]
            path = Path(folder, f"{number}.{suffix}")
            path.write_bytes(damaged := damage(data, draw))
            plain = Path(folder, f"plain.{suffix}")
            plain.write_bytes(damaged[skip_tags(io.BytesIO(damaged)) :])  # libsndfile counts a tag as samples
            verdict = judge(read_ours(path), read_by_name(plain))
            if verdict == "DIFFERENT" and read_header(io.BytesIO(damaged)).n_samples == UNKNOWN_LENGTH:
                verdict = "another length, which was never written"
            found[verdict] += 1
            if keep and (verdict.startswith("DIFFERENT") or "only libsndfile" in verdict or "has more" in verdict):
                path.rename(keep / f"{verdict.split()[0]}-{path.name}")
            else:
                path.unlink()
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
