"""A real Slurm of one node: munged, slurmctld and slurmd on this machine, configured in a temporary folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.commands import wait_for
from tests.helpers.dask_processes import HOST, Program, running

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = {name: shutil.which(name, path=SEARCHED) for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue")}
CONFIGURATION = """\
ClusterName=sounds
SlurmctldHost={name}({host})
SlurmctldPort={controller}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=2
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={name} NodeAddr={host} Port={node} CPUs=4 RealMemory=16384
PartitionName=normal Nodes=ALL Default=YES
PartitionName=closed Nodes=ALL State=DOWN
"""


def why_not() -> str:
    """Return why Slurm cannot be started here, if so."""
    missing = [name for name, path in PROGRAMS.items() if path is None]
    if missing:
        return f"there is no {', no '.join(missing)}"
    return "" if os.getuid() == 0 else "only root may start the programs of Slurm"


@dataclass(frozen=True)
class Slurm:
    """What it was configured with."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: object) -> list[str]:
        """Return what a command of Slurm prints, as lines."""
        done = subprocess.run(
            list(map(str, command)), env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()

    def jobs(self) -> list[str]:
        """Return the numbers of all jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--format=%i")

    def cancel_all(self) -> None:
        for job in self.jobs():
            self.ask("scancel", job)
        wait_for(lambda: not self.jobs(), "no job is left")


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def start(folder: Path, name: str, *arguments: object) -> Program:
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        whole = [str(PROGRAMS[name]), *map(str, arguments)]
        return Program(subprocess.Popen(whole, stdout=file, stderr=file, start_new_session=True), log)


def start_munge(folder: Path) -> Program:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    files = [f"--{option}={folder}/munge.{suffix}" for option, suffix in names.items()]
    return start(folder, "munged", "--foreground", "--force", *files)  # forced, since it is told not to run as root


def wait_until(programs: list[Program], condition: object, what: str) -> None:
    """Wait for a part of Slurm to be there; skip where a program has ended instead."""

    def check() -> object:
        for program in programs:
            if program.process.poll() is not None:
                errors = [line for line in program.text().splitlines() if "rror" in line]
                pytest.skip(f"Slurm does not start here: {program.log.stem} has ended: {'; '.join(errors[-3:])}")
        return condition()

    wait_for(check, what)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Run Slurm, with a partition `normal` of one node, and one that starts no jobs, `closed`."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as temporary, ExitStack() as stack:  # a socket's path is short
        folder, (controller, node) = Path(temporary), free_ports(2)
        where = {"name": socket.gethostname().partition(".")[0], "host": HOST, "controller": controller, "node": node}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, **where))
        (folder / "cgroup.conf").touch()
        (folder / "spool").mkdir()
        started = Slurm(folder)
        programs = [stack.enter_context(running(start_munge(folder)))]
        wait_until(programs, (folder / "munge.socket").exists, "munge")
        programs += [
            stack.enter_context(running(start(folder, name, "-D", "-f", folder / "slurm.conf")))
            for name in ("slurmctld", "slurmd")
        ]
        wait_until(programs, lambda: started.ask("sinfo", "-h", "-p", "normal", "-o", "%T") == ["idle"], "the node")
        stack.callback(started.cancel_all)  # what runs a job is no child of a program
        yield started
