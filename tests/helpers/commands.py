"""Run the commands as a user does, look into the stores that they write, and compute in another way what is in them."""

import importlib
import io
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import BinaryIO
from unittest import mock

import dask
import numpy as np
import xarray
from numpy.typing import NDArray

from mimii import engine
from mimii.engine import Record, compute, read_records
from mimii.engine.cluster import Cluster
from mimii.engine.outputs import begin
from mimii.features import FeatureSpec
from mimii.recordings import baseline_split, find_clips, make_catalogue, read_all_headers
from mimii.storage import DiskObjects
from mimii.table import TableOutput, TablePlan, make_table_plan
from tests.helpers import warm

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def environment(**more: str) -> dict[str, str]:
    return os.environ | warm.DOCUMENTED | {"PYTHONPATH": str(ROOT)} | more


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"jobs.{module}", *map(str, arguments)]


def run(
    module: str, *arguments: object, cwd: Path = ROOT, timeout: float | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a job as a process; it may take as long as the test, unless a timeout is a part of what is tested."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(module, *arguments, cwd=cwd, out=out, err=err, **variables)
        try:
            status = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess([module, *map(str, arguments)], status, _text(out), _text(err))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return io.TextIOWrapper(file, "utf-8", "replace").read()


def start(
    module: str, *arguments: object, out: BinaryIO, err: BinaryIO, cwd: Path = ROOT, **variables: str
) -> subprocess.Popen[bytes] | warm.Process:
    """Start a job as a process in a session of its own."""
    return warm.start(f"jobs.{module}", [*map(str, arguments)], cwd, environment(**variables), out, err)


def featurize(source: Path, output: Path, *arguments: object, **how: object) -> subprocess.CompletedProcess[str]:
    return run("featurize", source, "--output", output, "--shard-mib", 1, *arguments, **how)


def run_here(
    module: str, *arguments: object, said: io.StringIO | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a job in this process, a second or two faster: its status and what it printed, without warnings of Python.

    Variables are for what reads the environment when it is used, as Dask's configuration here. Who looks at what is
    said while it runs gives what it is written to.
    """
    words, out, err = list(map(str, arguments)), said or io.StringIO(), said or io.StringIO()
    of_dask = {
        name.removeprefix("DASK_").lower().replace("__", "."): dask.config.interpret_value(value)
        for name, value in variables.items()
        if name.startswith("DASK_")
    }
    with (
        mock.patch.dict(os.environ, variables),
        dask.config.set(of_dask),
        redirect_stdout(out),
        redirect_stderr(err),
        _logged_as_by_a_command(),
    ):
        status = call(module, *words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def call(module: str, *arguments: object) -> int:
    """Call the main function of a job, and return its status; handlers of signals stay as they are."""
    is_package = hasattr(importlib.import_module(f"jobs.{module}"), "__path__")
    main = importlib.import_module(f"jobs.{module}.__main__" if is_package else f"jobs.{module}").main
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return main(list(map(str, arguments)))
    except SystemExit as exit_:
        return exit_.code
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _logged_as_by_a_command() -> Iterator[None]:
    """Have a command find no handlers of the log, as in a process of its own: it then writes to standard error."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def featurize_from_here(source: Path, output: Path, *arguments: object, **how: str) -> subprocess.CompletedProcess[str]:
    """Do as `featurize`, with the driver in this process."""
    return run_here("featurize", source, "--output", output, "--shard-mib", 1, *arguments, **how)


def featurize_here(*arguments: object) -> int:
    """Run the command in this process, one task after the other: half a second less."""
    return call("featurize", "--scheduler", "sync", "--shard-mib", 1, *arguments)


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = math.inf, progress: Callable[[], object] = lambda: None
) -> object:
    """Poll until something is true; return it.

    A busy machine may take its time: only the suite's own time limit ends the wait. Where there is none, `seconds`
    count from the last change of what `progress` returns. To look takes a fifth of the time at most: what is waited
    for runs on the same machine.
    """
    seen, began = progress(), time.monotonic()
    deadline = began + seconds
    try:
        while not (value := condition()):
            if (now := progress()) != seen:
                seen, deadline = now, time.monotonic() + seconds
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
            time.sleep(min(max(0.002, 4 * (time.monotonic() - began)), 0.1))
            began = time.monotonic()
    except BaseException as error:
        error.add_note(f"while waiting for {what}")
        raise
    return value


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_bytes(one: Path, other: Path) -> None:
    ours, theirs = contents(one), contents(other)
    assert not ours.keys() ^ theirs.keys(), f"only in one of {one} and {other}: {sorted(ours.keys() ^ theirs.keys())}"
    others = [name for name in sorted(ours) if ours[name] != theirs[name]]
    assert not others, f"other bytes in {one} and {other}: {others}"


def assert_same_table(one: Path, other: Path) -> None:
    """Compare all that a reader sees; the keys of chunks may be others."""
    xarray.testing.assert_identical(open_table(one), open_table(other))


def shard_files(output: Path) -> dict[int, tuple[int, int]]:
    """Tell one writing of a shard from another: each task that runs puts a new file in the place of the old one."""
    shards = (output / "features").glob("c.*.0")
    return {int(path.name.split(".")[1]): (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards}


def replaced(before: dict[int, tuple[int, int]], output: Path) -> list[int]:
    """Say which shards were computed since."""
    return [shard for shard, file in sorted(shard_files(output).items()) if before.get(shard) != file]


def record_numbers(output: Path) -> list[int]:
    return sorted(int(path.stem) for path in (output / "features/records").glob("*.json"))


def partial_files(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if "partial" in path.name]


def open_table(output: Path) -> xarray.Dataset:
    return xarray.open_zarr(output, chunks=None).load()  # without Dask in between, which takes as long again


def rows_by_path(table: xarray.Dataset) -> dict[str, NDArray[np.float32]]:
    columns = (table[name].values for name in ("path", "first_row", "n_rows"))
    return {
        Path(path).name: table.features.values[first : first + count]
        for path, first, count in zip(*columns, strict=True)
    }


def shards_of(table: xarray.Dataset, name: str, shard_rows: int) -> list[int]:
    """Say which shards hold rows of a clip, from the columns of the table."""
    [clip] = [index for index, path in enumerate(table.path.values) if Path(path).name == name]
    first, count = int(table.first_row[clip]), int(table.n_rows[clip])
    return list(range(first // shard_rows, (first + count - 1) // shard_rows + 1))


def librosa_rows(
    path: Path | str, n_fft: int = 2048, hop_length: int = 512, n_mels: int = 64, frames: int = 5, **how: float
) -> NDArray[np.float32]:
    """Compute the rows of a clip the plain way; shape (n_rows, frames * n_mels)."""
    import librosa  # noqa: PLC0415  workers import this module, too

    samples, sample_rate = librosa.load(path, sr=None, mono=False)
    samples = np.atleast_2d(samples)[int(how.get("channel", 0))]
    mel = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, power=how.get("power", 2.0)
    )
    decibel = librosa.power_to_db(mel, ref=np.max)
    return np.array([decibel[:, t : t + frames].T.ravel() for t in range(decibel.shape[1] - frames + 1)])


def plan_table(
    source: Path, spec: FeatureSpec | None = None, split: Callable = baseline_split, mib: int = 1
) -> TablePlan:
    """Plan a table of all recordings below a folder, with small shards."""
    clips, _ = read_all_headers(find_clips([str(source)]))
    return make_table_plan(make_catalogue(clips, split(clips), spec or FeatureSpec()), mib * MIB, ["recordings"])


def output_at(plan: TablePlan, folder: Path) -> TableOutput:
    return TableOutput(plan, DiskObjects(str(folder)))


def fill(plan: TablePlan, folder: Path, shards: Iterable[int] | None = None) -> list[Record]:
    """Begin a store and compute some of its shards in this process, by default all; return their records."""
    output = output_at(plan, folder)
    begin(output)
    wanted = range(output.n_tasks) if shards is None else shards
    tasks = ((shard, output.task(shard)) for shard in wanted)
    return [record for _, record in compute(Cluster(None, 1), output.pipeline, tasks)]


def records_at(plan: TablePlan, folder: Path) -> dict[int, Record]:
    """Return the valid records of a table."""
    return read_records(output_at(plan, folder))


def build(plan: TablePlan, folder: Path) -> Path:
    """Make a whole table in this process."""
    engine.run(output_at(plan, folder))
    return folder
