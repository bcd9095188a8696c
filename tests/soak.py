"""Run the commands again and again while all that may go wrong on a machine or a cluster does; the bytes stay the same.

A seed draws what happens and when. Each round writes one output from nothing to its end, is disturbed on the way and
compared byte for byte with an undisturbed run. What was finished before a run resumed must not be computed again.

    python -m tests.soak --kills 200
"""

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import psutil

from tests.helpers.commands import contents, open_table, shards_of, wait_for
from tests.helpers.dask_processes import Program, address_of, freeze, kill_all, start_scheduler, start_worker, thaw
from tests.helpers.faults import Run, full_disk, is_root
from tests.helpers.proxy import SLOW_DOWN, CutAnswer, CutRequest, proxy_to
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import client, rclone_server

LIMIT = 300.0
"""Seconds without progress after which a run counts as stuck."""

HOW = {"featurize": ("--hop-length", 32, "--n-fft", 8192), "render": ("--hop-length", 8, "--n-fft", 4096)}
"""Much to compute for few bytes: workers are killed in the middle of tasks."""

BUCKET = "factory"
RCLONES_OWN = re.compile(r"\.partial$|(^|/)\.rclone_temp_put_[0-9a-f-]+$")
"""Files of a server that was killed while it received an object; it never lists them as objects."""

_RECORDS = {"featurize": "features/records", "render": "records"}
_HOG = """
import sys, time
import numpy as np
from distributed import Client
with Client(sys.argv[1], timeout=300) as client:
    client.wait_for_workers(2, timeout=300)
    address = sorted(client.scheduler_info(n_workers=-1)["workers"])[int(sys.argv[2])]
    kept = client.submit(np.ones, 100_000_000, workers=[address], pure=False)
    deadline = time.monotonic() + float(sys.argv[3])
    while address in client.scheduler_info(n_workers=-1)["workers"] and time.monotonic() < deadline:
        time.sleep(0.1)
"""
_RETIRE = """
import sys
from distributed import Client
with Client(sys.argv[1], timeout=300) as client:
    client.wait_for_workers(2, timeout=300)
    address = sorted(client.scheduler_info(n_workers=-1)["workers"])[int(sys.argv[2])]
    client.retire_workers([address], close_workers=True)
"""


@dataclass(frozen=True)
class Moment:
    """When so many more tasks are done, and then some seconds later."""

    tasks: int
    seconds: float


@dataclass(frozen=True)
class Fault:
    """What happens in one round.

    Attributes
    ----------
    name : str
        What is done, one of `FAULTS`.
    job : str
        The command.
    moments : tuple of Moment
        When; each counts from the one before.
    choice : float
        From 0 to 1: picks a victim, a share, a way, see there.

    """

    name: str
    job: str
    moments: tuple[Moment, ...]
    choice: float


@dataclass
class Tally:
    """What became of a round."""

    kills: int = 0
    strikes: int = 0
    needless: int = 0
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        return "; ".join(self.wrong) or (f"skipped: {self.skipped}" if self.skipped else "same bytes")

    def check(self, is_right: object, what: str) -> None:
        self.wrong += [] if is_right else [what]


class Round:
    """One output, the runs that write it, and all that is started for them."""

    def __init__(self, soak: "Soak", fault: Fault, folder: Path, stack: ExitStack) -> None:
        self.soak, self.fault, self.folder, self.stack = soak, fault, folder, stack
        self.tally, self.runs = Tally(), list[Run]()
        self.raw, self.output, self.expected = soak.raw, folder / "out", None
        self.kept: dict[int, tuple[int, int]] = {}
        self.programs: list[Program] = []

    def start(self, *options: object, source: object = None, url: object = None, **variables: str) -> Run:
        said = self.folder / f"said-{len(self.runs)}"
        where = {"said": said, "job": self.fault.job, "how": HOW[self.fault.job]}
        run = Run(source or self.raw, url or self.output, *options, **where, **self.soak.variables, **variables)
        self.stack.callback(run.end)
        self.runs.append(run)
        return run

    def records(self) -> dict[int, tuple[int, int]]:
        """Tell one writing of a record from another."""
        found = {}
        for path in (self.output / _RECORDS[self.fault.job]).glob("*.json"):
            try:
                found[int(path.stem)] = (path.stat().st_ino, path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        return found

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait as long as there is progress: records, or lines that a run prints."""
        wait_for(condition, what, LIMIT, lambda: (self.records(), [run.text() for run in self.runs]))

    def status(self, run: Run) -> int:
        """Wait for the end of a run; return its exit status."""
        self.wait_for(run.ended, "the end of a run")
        return run.wait()

    def is_under_way(self, run: Run, moment: Moment) -> bool:
        """Wait for a moment; say whether the run is still under way then."""
        wanted = min(len(self.records()) + moment.tasks, self.n_tasks)
        self.wait_for(lambda: run.ended() or len(self.records()) >= wanted, "progress")
        until = time.monotonic() + moment.seconds
        self.wait_for(lambda: run.ended() or time.monotonic() >= until, "a moment")
        return not run.ended()

    @cached_property
    def n_tasks(self) -> int:
        return len(list((self.soak.expected(self.fault.job) / _RECORDS[self.fault.job]).glob("*.json")))

    def resume(self) -> None:
        """Note what is finished before a run resumes: none of that is to be computed again."""
        now = self.records()
        self.tally.needless += self.computed_again(now)
        self.kept = now

    def computed_again(self, now: dict[int, tuple[int, int]]) -> int:
        return sum(now.get(task) != written for task, written in self.kept.items())

    def finish(self, run: Run, *, status: int = 0) -> None:
        """Wait for the end of a run, and compare."""
        found = self.status(run)
        self.tally.check(found == status, f"ended with {found}")
        if status == 0:
            self.resume()
            self.compare()

    def compare(self) -> None:
        ours, theirs = (
            contents(folder) for folder in (self.output, self.expected or self.soak.expected(self.fault.job))
        )
        ours = {name: data for name, data in ours.items() if not (self.on_s3 and RCLONES_OWN.search(name))}
        self.tally.check(ours.keys() >= theirs.keys(), f"{len(theirs.keys() - ours.keys())} files lost")
        excess = sorted(ours.keys() - theirs.keys())
        self.tally.check(not excess, f"{len(excess)} files too many, first {excess[:1]}")
        torn = [name for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
        self.tally.check(not torn, f"{len(torn)} files differ, first {torn[:1]}")

    @property
    def on_s3(self) -> bool:
        return self.fault.name == "S3 upset"

    def kill(self, processes: Sequence[psutil.Process]) -> None:
        """Kill one of some processes."""
        if processes:
            with suppress(psutil.NoSuchProcess):
                processes[int(self.fault.choice * 997 + self.tally.kills) % len(processes)].kill()
                self.tally.kills += 1

    def start_cluster(self, *options: object) -> Path:
        """Start a scheduler and two workers; return the scheduler's file."""
        self.start_programs(*options)
        self.stack.callback(self.stop_programs)
        return self.folder / "scheduler.json"

    def start_programs(self, *options: object) -> None:
        self.programs = [start_scheduler(self.folder, **self.soak.variables)]
        address_of(self.folder)
        for _ in range(2):
            self.add_worker(*options)

    def add_worker(self, *options: object) -> None:
        self.programs.append(start_worker(self.folder, "--nanny", *options, **self.soak.variables))

    def stop_programs(self) -> None:
        for program in self.programs:
            kill_all(program.processes())
            program.process.wait(LIMIT)

    def ask(self, script: str, *arguments: object) -> None:
        """Do something as another user of the cluster would, in another process."""
        command = [sys.executable, "-c", script, address_of(self.folder), *map(str, arguments)]
        with (self.folder / "asked").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, timeout=LIMIT, check=False)

    def workers_of_cluster(self) -> list[psutil.Process]:
        return [process for program in self.programs[1:] for process in program.workers()]


def kill_workers(round_: Round) -> None:
    run = round_.start()
    for moment in round_.fault.moments:
        if not round_.is_under_way(run, moment):
            break
        round_.wait_for(lambda: run.ended() or run.workers(), "a worker")
        round_.kill(run.workers())
    round_.finish(run)


def kill_drivers(round_: Round) -> None:
    run = round_.start()
    for index, moment in enumerate(round_.fault.moments):
        if not round_.is_under_way(run, moment):
            break
        whole_machine = index % 2 == 1
        for process in run.alive() if whole_machine else [psutil.Process(run.process.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                round_.tally.kills += 1
        run.wait()
        round_.wait_for(lambda run=run: not run.alive(), "the end of workers without a driver")
        round_.resume()
        run = round_.start()
    round_.finish(run)


def restart_schedulers(round_: Round) -> None:
    run = round_.start("--scheduler", round_.start_cluster())
    for moment in round_.fault.moments:
        if not round_.is_under_way(run, moment):
            break
        round_.programs[0].kill()
        round_.tally.kills += 1
        round_.wait_for(lambda: not round_.workers_of_cluster(), "the end of workers without a scheduler")
        round_.stop_programs()
        round_.resume()
        round_.start_programs()
    round_.finish(run)


def freeze_worker(round_: Round) -> None:
    run = round_.start()
    if round_.is_under_way(run, round_.fault.moments[0]):
        round_.wait_for(lambda: run.ended() or run.workers(), "a worker")
        workers = run.workers()
        victim = workers[int(round_.fault.choice * len(workers))]
        freeze(victim)
        round_.tally.strikes += 1
        until = time.monotonic() + round_.soak.freeze
        round_.wait_for(lambda: time.monotonic() >= until, "a thaw")
        round_.tally.check(not run.ended(), "ended without a frozen worker's results")
        thaw(victim)
    round_.finish(run)


def retire_workers(round_: Round) -> None:
    run = round_.start("--scheduler", round_.start_cluster())
    for index, moment in enumerate(round_.fault.moments):
        if not round_.is_under_way(run, moment):
            break
        if (index + round_.fault.choice) % 2 < 1:
            program = round_.programs.pop(1)
            program.process.send_signal(signal.SIGTERM)
            program.process.wait(LIMIT)
        else:
            round_.ask(_RETIRE, index % 2)
        round_.tally.strikes += 1
        round_.add_worker()
    round_.finish(run)


def fill_memory(round_: Round) -> None:
    run = round_.start("--scheduler", round_.start_cluster("--memory-limit", "500MB"))
    for index, moment in enumerate(round_.fault.moments):
        if not round_.is_under_way(run, moment):
            break
        round_.wait_for(lambda: run.ended() or len(round_.workers_of_cluster()) >= 2, "both workers")
        before = {process.pid for process in round_.workers_of_cluster()}
        round_.ask(_HOG, index % 2, LIMIT / 2)
        gone = before - {process.pid for process in round_.workers_of_cluster()}
        round_.tally.check(gone or run.ended(), "no worker was killed for its memory")
        round_.tally.kills += len(gone)
    round_.finish(run)


def fill_disk(round_: Round) -> None:
    if not is_root():
        round_.tally.skipped = "needs root, for a small disk"
        return
    size = sum(len(data) for data in contents(round_.soak.expected(round_.fault.job)).values())
    with full_disk(round_.folder / "disk", 2 * size + (4 << 20), int(round_.fault.choice * size)) as ballast:
        round_.output = round_.folder / "disk" / "out"
        run = round_.start()
        round_.finish(run, status=1)
        round_.tally.check("No space left" in run.text(), "nothing is said of the full disk")
        round_.tally.strikes += 1
        round_.wait_for(lambda: not run.alive(), "the end of all workers")
        round_.resume()
        ballast.unlink()
        round_.finish(round_.start())


def upset_storage(round_: Round) -> None:
    bucket = round_.folder / "objects" / BUCKET
    shutil.copytree(round_.raw, bucket / "raw")
    round_.output, round_.expected = bucket / "out.zarr", round_.soak.expected_on_s3
    server = round_.stack.enter_context(rclone_server(bucket.parent))
    proxy = round_.stack.enter_context(proxy_to(server, latency=0.002, seed=int(round_.fault.choice * 1e6)))
    faults = [proxy.spoil(SLOW_DOWN, probability=0.1)]
    faults += [proxy.spoil(fault, probability=0.04) for fault in (CutRequest(), CutAnswer(2000))]
    where = {"source": f"s3://{BUCKET}/raw", "url": f"s3://{BUCKET}/out.zarr", **proxy.environment}
    run = round_.start(**where)
    for moment in round_.fault.moments:
        if not round_.is_under_way(run, moment):
            break
        server.kill()
        round_.tally.kills += 1
        seen = len(proxy.requests)
        round_.wait_for(lambda seen=seen: run.ended() or len(proxy.requests) > seen + 5, "requests without an answer")
        server.start()
    if round_.status(run) and not _lists(server):  # rclone itself may come back unable to list
        server.kill()
        server.start()
        round_.resume()
        run = round_.start(**where)
    round_.finish(run)
    round_.tally.strikes += sum(rule.used for rule in faults)


def _lists(server: object) -> bool:
    try:
        return bool(client(server).list_objects_v2(Bucket=BUCKET)["KeyCount"])
    except OSError:
        return False


def replace_recording(round_: Round) -> None:
    round_.raw = round_.folder / "raw"
    paths = write_machines(round_.raw, round_.soak.n_clips)
    run = round_.start()
    round_.wait_for(round_.records, "the first record")
    if round_.is_under_way(run, round_.fault.moments[0]):
        run.kill()
        round_.tally.kills += 1
    round_.wait_for(lambda: not run.alive(), "the end of all workers")
    path, seed = paths[int(round_.fault.choice * len(paths))], int(round_.fault.choice * 1e6) + 1000
    aside = path.rename(round_.folder / "aside")
    round_.resume()
    write_clip(path, seed, 15_000)
    before = contents(round_.output)
    refused = round_.start()
    round_.finish(refused, status=2)
    round_.tally.check(contents(round_.output) == before, "a refused run wrote")
    round_.tally.check("holds another" in refused.text(), "nothing is said of the recording")
    aside.rename(path)
    write_clip(path, seed)
    round_.tally.strikes += 2
    round_.expected = round_.folder / "expected"
    undisturbed = round_.start("--scheduler", "sync", url=round_.expected)
    round_.tally.check(round_.status(undisturbed) == 0, "the undisturbed run failed")
    table = open_table(round_.expected)
    for shard in shards_of(table, path.name, table.attrs["shard_rows"]):
        round_.kept.pop(shard, None)
    round_.finish(round_.start())


def start_two_drivers(round_: Round) -> None:
    runs = [round_.start()]
    for moment in round_.fault.moments[:1]:
        round_.is_under_way(runs[0], moment)
    runs.append(round_.start())
    round_.tally.strikes += 1
    for run in runs:
        status = round_.status(run)
        round_.tally.check(status == 0 or (status == 2 and "holds" in run.text()), f"one of two ended with {status}")
    round_.kept = round_.records()
    round_.finish(round_.start())


@dataclass(frozen=True)
class Kind:
    """How to draw a fault, and what it does."""

    play: Callable[[Round], None]
    most: int
    tasks: int
    seconds: float
    jobs: tuple[str, ...] = ("featurize",)


BOTH = ("featurize", "render")
FAULTS = {
    "workers killed": Kind(kill_workers, 16, 3, 0.5, ("featurize", "featurize", "render")),
    "drivers killed": Kind(kill_drivers, 10, 8, 1.0, ("featurize", "featurize", "render")),
    "scheduler killed": Kind(restart_schedulers, 3, 15, 0.3),
    "worker frozen": Kind(freeze_worker, 1, 20, 0.3),
    "workers retired": Kind(retire_workers, 3, 15, 0.3),
    "memory full": Kind(fill_memory, 2, 20, 0.3),
    "disk full": Kind(fill_disk, 1, 1, 0.0, BOTH),
    "S3 upset": Kind(upset_storage, 2, 20, 0.2),
    "recording replaced": Kind(replace_recording, 1, 40, 0.2),
    "two drivers": Kind(start_two_drivers, 1, 10, 1.0, BOTH),
}


def draw(name: str, rng: random.Random) -> Fault:
    """Draw what happens in a round."""
    kind = FAULTS[name]
    tasks = (0, 1, rng.randint(1, kind.tasks), rng.randint(1, kind.tasks), rng.randint(1, kind.tasks))
    moments = tuple(Moment(rng.choice(tasks), round(rng.uniform(0, kind.seconds), 3)) for _ in range(kind.most))
    return Fault(name, rng.choice(kind.jobs), moments, rng.random())


class Soak:
    """Recordings, what undisturbed runs make of them, and where all of that is."""

    def __init__(self, folder: Path, n_clips: int, seconds_frozen: float) -> None:
        self.folder, self.n_clips, self.freeze = folder, n_clips, seconds_frozen
        self.raw = folder / "raw"
        write_machines(self.raw, n_clips)
        (folder / "scratch").mkdir()
        self.variables = {"TMPDIR": str(folder / "scratch"), "DASK_TEMPORARY_DIRECTORY": str(folder / "scratch")}

    def expected(self, job: str) -> Path:
        """Return what an undisturbed run writes."""
        output = self.folder / f"expected-{job}"
        if not output.exists():
            _run_undisturbed(self.raw, output, output.with_suffix(".said"), job, self.variables)
        return output

    @cached_property
    def expected_on_s3(self) -> Path:
        objects = self.folder / "objects"
        shutil.copytree(self.raw, objects / BUCKET / "raw")
        with rclone_server(objects) as server:
            where, said = f"s3://{BUCKET}/", self.folder / "expected-s3.said"
            variables = self.variables | server.environment
            _run_undisturbed(f"{where}raw", f"{where}out.zarr", said, "featurize", variables)
        return objects / BUCKET / "out.zarr"

    def play(self, fault: Fault) -> tuple[Tally, str]:
        """Play a round; return what became of it, and what its runs said."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, ExitStack() as stack:
            round_ = Round(self, fault, Path(folder), stack)
            try:
                FAULTS[fault.name].play(round_)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                round_.tally.wrong.append(f"stuck: {error}")
            except Exception as error:  # noqa: BLE001  the other rounds are worth having all the same
                round_.tally.wrong.append(f"the soak itself failed: {traceback.format_exception(error)[-2:]}")
            # What starts for a driver that is killed then may say how it lost it: that is no fault of a run.
            ended = [run.text() for run in round_.runs if run.process.returncode != -signal.SIGKILL]
            if found := [text for text in ended if re.search("Traceback|Unclosed", text)]:
                round_.tally.wrong.append(f"a traceback, or connections that were not closed: {found[0][-3000:]}")
            round_.tally.check(not round_.tally.needless, "finished tasks were done again")
            said = "\n".join(run.text()[-3000:] for run in round_.runs[-3:])
        round_.tally.seconds = time.monotonic() - started
        return round_.tally, said


def _run_undisturbed(raw: object, output: object, said: Path, job: str, variables: dict[str, str]) -> None:
    run = Run(raw, output, "--scheduler", "sync", said=said, job=job, how=HOW[job], **variables)
    try:
        wait_for(run.ended, "the end of an undisturbed run", LIMIT, run.text)
        assert run.wait() == 0, run.text()
    finally:
        run.end()


LINE = "{:>5}  {:<20}{:<10}{:>6}{:>9}{:>9}{:>12}  {}"
HEADER = LINE.format("round", "fault", "command", "kills", "strikes", "seconds", "done again", "verdict")


def report(label: object, name: str, job: str, tallies: Sequence[Tally]) -> str:
    """Write a line of the table."""
    verdicts = dict.fromkeys(tally.verdict for tally in tallies)
    numbers = (sum(getattr(tally, what) for tally in tallies) for what in ("kills", "strikes", "seconds", "needless"))
    kills, strikes, seconds, needless = numbers
    return LINE.format(label, name, job, kills, strikes, f"{seconds:.0f}", needless, " | ".join(verdicts))


def soak(folder: Path, options: argparse.Namespace) -> int:
    """Play rounds until there were enough kills, and each fault once; return the exit status."""
    world, played = Soak(folder, options.clips, options.freeze), list[tuple[Fault, Tally]]()
    until = time.monotonic() + 60 * options.minutes
    print(HEADER, flush=True)
    for number, fault in enumerate(faults(options)):
        n_kills = sum(tally.kills for _, tally in played)
        if time.monotonic() > until or (number >= len(options.only) and n_kills >= options.kills):
            break
        tally, said = world.play(fault)
        played.append((fault, tally))
        print(report(number, fault.name, fault.job, [tally]), flush=True)
        if tally.wrong:
            print(f"{fault}\n{said}", flush=True)
    print(f"\n{HEADER}")
    for name in dict.fromkeys(fault.name for fault, _ in played):
        some = [tally for fault, tally in played if fault.name == name]
        print(report(len(some), name, "", some))
    print(report(len(played), "all", "", [tally for _, tally in played]))
    return int(any(tally.wrong for _, tally in played))


def faults(options: argparse.Namespace) -> Iterator[Fault]:
    """Draw rounds without end: all faults in turn."""
    number = 0
    while True:
        for name in options.only:
            fault = draw(name, random.Random(f"{options.seed} {number}"))
            yield replace(fault, moments=fault.moments[: options.most])
            number += 1


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGTERM end the program as an interrupt does: nothing is left behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 where anything was lost, wrong, stuck or done again."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="draws what happens and when; default: 0")
    parser.add_argument(
        "--kills", type=int, default=20, help="play rounds until so many processes were killed; default: 20"
    )
    parser.add_argument(
        "--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT", help=str(list(FAULTS))
    )
    parser.add_argument("--minutes", type=float, default=60, help="begin no round after so many; default: 60")
    parser.add_argument("--most", type=int, help="strike at most so many times a round; default: as often as is drawn")
    parser.add_argument("--freeze", type=float, default=60, help="seconds that a worker is frozen; default: 60")
    parser.add_argument("--clips", type=int, default=160, help="made recordings, two a shard; default: 160")
    parser.add_argument("--plan", type=int, metavar="N", help="print what would happen in the first N rounds, no more")
    options = parser.parse_args(arguments)
    if options.plan:
        for number, fault in zip(range(options.plan), faults(options), strict=False):
            print(number, fault)
        return 0
    with ended_by_signal(), tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return soak(Path(folder), options)


if __name__ == "__main__":
    sys.exit(main())
