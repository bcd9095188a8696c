"""One recording -> its mel spectrogram, or the reason why there is none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from mimii.features.decode import read_header, read_stretches
from mimii.features.mel import FloatArray, mel_of_stretches
from mimii.features.spec import FeatureSpec
from mimii.storage import AudioError, Opener, Place, ReadOptions, StorageError, open_all, unreadable

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a recording.

    Attributes
    ----------
    mel : ndarray of float32, shape (n_frames, n_mels), or None
        The mel spectrogram; None where the recording could not be read.
    problem : str
        Why it could not; else empty.
    unread : bool
        Whether the fault may lie with the disk and not with the recording: then it is worth another try.

    """

    mel: FloatArray | None
    problem: str = ""
    unread: bool = False


class Part(Protocol):
    """What a task does with one recording."""

    @property
    def clip(self) -> int:
        """Which clip."""
        ...

    @property
    def place(self) -> Place:
        """Where its bytes are."""
        ...

    @property
    def n_samples(self) -> int:
        """Samples of one channel, as planned."""
        ...


class Task(Protocol):
    """What reads recordings: a frozen dataclass."""

    @property
    def parts(self) -> Sequence[Part]:
        """Which recordings."""
        ...

    @property
    def read_options(self) -> ReadOptions:
        """How to fetch them."""
        ...

    @property
    def spec(self) -> FeatureSpec:
        """What to compute of them."""
        ...

    @property
    def faults(self) -> Mapping[int, Loaded]:
        """What became of clips when they were tried before: these are not read again."""
        ...


def load_all(task: Task) -> Iterator[Loaded]:
    """Load the recordings of a task, one after the other."""
    left = [part for part in task.parts if part.clip not in task.faults]
    openers = open_all([part.place for part in left], task.read_options)
    for part in task.parts:
        yield task.faults.get(part.clip) or load_mel(next(openers), part.n_samples, task.spec)


def load_mel(opener: Opener, n_samples: int, spec: FeatureSpec) -> Loaded:
    """Load one channel of a recording and compute its mel spectrogram."""
    try:
        with opener() as file:
            header = read_header(file)
            _check_planned(header.sample_rate, header.n_samples, n_samples, spec)
            mel = mel_of_stretches(read_stretches(file, header, spec.channel), header.n_samples, spec)
            _read_rest(file)
    except AudioError as error:
        return Loaded(None, str(error))
    except StorageError:
        raise
    except OSError as error:
        return Loaded(None, unreadable(error), unread=True)
    except MemoryError:
        return Loaded(None, "not enough memory for it", unread=True)
    return Loaded(mel)


def _check_planned(sample_rate: int, n_samples: int, planned: int, spec: FeatureSpec) -> None:
    if (sample_rate, n_samples) != (spec.sample_rate, planned):
        expected = f"{planned} samples at {spec.sample_rate} Hz"
        msg = (
            f"planned were {expected}, found were {n_samples} at {sample_rate} Hz: it changed while the job ran, or is "
            "unlike others of its size, and then --probe all helps"
        )
        raise AudioError(msg)


def _read_rest(file: BinaryIO) -> None:
    """Read to the end, where the checksum of an archive's member is compared."""
    while file.read(_BLOCK_BYTES):
        pass
