"""From a clip's bytes to its samples; and what becomes of each clip on its way to features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mimii.features.mel import SampleBlocks
from mimii.features.recording import Input, NotAsPlannedError
from mimii.features.resampling import resample
from mimii.features.spec import FeatureSpec
from mimii.storage import AudioError, ReadOptions, StorageError, unreadable


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
    """What has been computed of a clip so far: what reads it, its samples, its mel spectrogram, its dB; or a fault.

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
            fault = Fault(str(error), unread=isinstance(error, NotAsPlannedError))
        except StorageError:
            raise
        except OSError as error:
            fault = Fault(unreadable(error), unread=True)
        except MemoryError:
            fault = Fault("not enough memory for it", unread=True)
        return replace(self, value=None, fault=fault)


def load(read: Callable[[], SampleBlocks], one: Input, spec: FeatureSpec) -> SampleBlocks:
    """Open the samples of a clip at the rate of the spec, block by block: decoding errors come with the blocks.

    Parameters
    ----------
    read : callable
        Returns its samples at the rate of the recording, see `mimii.features.OpenRecording`.
    one : Input
        Which clip.
    spec : FeatureSpec
        Uses sample_rate.

    Returns
    -------
    SampleBlocks
        float32, full scale is 1; resampled where the recording has another rate.

    Raises
    ------
    AudioError
        If it is not audio, or is not as planned. Reading a block may raise it, too.
    OSError
        If it cannot be read.

    """
    return resample(read(), one.header.sample_rate, spec.sample_rate)
