"""From a clip's bytes to its samples; and what becomes of each clip on its way to features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol

from mimii.features.decode import Header, read_blocks, read_header
from mimii.features.mel import FloatArray, SampleBlocks
from mimii.features.sndfile import UNKNOWN_LENGTH
from mimii.features.spec import FeatureSpec
from mimii.storage import AudioError, Opener, Place, ReadOptions, StorageError, unreadable

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """What a task reads of one clip.

    Attributes
    ----------
    clip : int
        Index of the clip.
    place : Place
        Where its bytes are.
    n_samples : int
        Samples of one channel, as planned.
    is_kept : bool
        Whether its results are at the output already and stay: it is not read.

    """

    clip: int
    place: Place
    n_samples: int
    is_kept: bool = False


class Task(Protocol):
    """A partition of clips, with all that is needed to compute them: a frozen dataclass."""

    @property
    def inputs(self) -> Sequence[Input]:
        """The clips."""
        ...

    @property
    def read_options(self) -> ReadOptions:
        """How to fetch them."""
        ...

    @property
    def spec(self) -> FeatureSpec:
        """What to compute."""
        ...

    @property
    def faults(self) -> Mapping[int, "Fault"]:
        """Clips that failed before, by index: they are not read again."""
        ...


@dataclass(frozen=True, slots=True)
class ClipTask:
    """Some clips to be computed, for what needs no more than a `Task`."""

    inputs: tuple[Input, ...]
    read_options: ReadOptions
    spec: FeatureSpec
    faults: Mapping[int, "Fault"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a clip failed.

    Attributes
    ----------
    problem : str
        The reason, without the path.
    unread : bool
        Whether the disk or the memory may be to blame and not the recording: then the next run tries again.

    """

    problem: str
    unread: bool = False


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What has been computed of a clip so far: what opens it, its samples, its mel spectrogram, its dB; or a fault.

    Attributes
    ----------
    input : Input
        Which clip.
    task : Task
        The partition that it belongs to, of the type of its job.
    value : Any
        The result of the last step; None where the clip failed.
    fault : Fault or None
        Why it failed.
    part : Any
        Which part of the clip it is, where a clip is cut, as for images.

    """

    input: Input
    task: Any
    value: Any = None
    fault: Fault | None = None
    part: Any = None

    def then(self, step: Callable[[Any], Any]) -> "ClipResult":
        """Return the clip after one more step; one that failed or is kept stays as it is, one that fails says why.

        Raises
        ------
        StorageError
            If S3 cannot be used: the recording is not to blame.

        """
        if self.fault or self.input.is_kept:
            return self
        try:
            return replace(self, value=step(self.value))
        except AudioError as error:
            fault = Fault(str(error))
        except StorageError:
            raise
        except OSError as error:
            fault = Fault(unreadable(error), unread=True)
        except MemoryError:
            fault = Fault("not enough memory for it", unread=True)
        return replace(self, value=None, fault=fault)


def load(opener: Opener, n_samples: int, spec: FeatureSpec) -> SampleBlocks:
    """Open a recording and return its samples, block by block.

    Parameters
    ----------
    opener : callable
        Opens the recording: one of `mimii.storage.open_all`.
    n_samples : int
        Samples of one channel, as planned.
    spec : FeatureSpec
        Uses sample_rate and channel.

    Returns
    -------
    SampleBlocks
        float32, full scale is 1. The file is closed after the last block.

    Raises
    ------
    AudioError
        If it is not audio, or is not as planned. Reading a block may raise it, too.
    OSError
        If it cannot be read.

    """
    file = opener()
    try:
        header = read_header(file)
        if header.n_samples == UNKNOWN_LENGTH:  # counted for the plan; after the last block it is compared
            header = replace(header, n_samples=n_samples)
        _check_planned(header, n_samples, spec)
    except BaseException:
        file.close()
        raise
    return SampleBlocks(header.n_samples, _read_all(file, header, spec.channel))


def _read_all(file: BinaryIO, header: Header, channel: int) -> Iterator[FloatArray]:
    with file:
        yield from read_blocks(file, header, channel)
        while file.read(_BLOCK_BYTES):  # to the end, where the checksum of an archive's member is compared
            pass


def _check_planned(header: Header, n_samples: int, spec: FeatureSpec) -> None:
    if (header.sample_rate, header.n_samples) != (spec.sample_rate, n_samples):
        expected = f"{n_samples} samples at {spec.sample_rate} Hz"
        msg = (
            f"planned were {expected}, found were {header.n_samples} at {header.sample_rate} Hz: it changed during the "
            "run, or differs from others of its size, and then --probe all helps"
        )
        raise AudioError(msg)
