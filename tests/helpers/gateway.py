"""A real Dask Gateway on the loopback interface, whose clusters are processes of this machine."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.commands import wait_for
from tests.helpers.dask_processes import HOST, SCHEDULER, WORKER, Program, kill_all, running, start

CONFIGURATION = f"""
import sys

from dask_gateway_server.options import Bool, Mapping, Options


def configure(options):
    waits = {{"scheduler_cmd": ["sh", "-c", "exec sleep infinity"]}} if options.never_starts else {{}}
    nanny = [] if options.nanny else ["--no-nanny"]
    return {{"environment": options.environment, "worker_cmd": [*c.ClusterConfig.worker_cmd, *nanny]}} | waits


c.Proxy.address = c.DaskGateway.address = "{HOST}:0"
c.DaskGateway.log_datefmt = ""
c.ClusterConfig.scheduler_cmd = [sys.executable, "-m", "{SCHEDULER}", "--no-dashboard"]
c.ClusterConfig.worker_cmd = [sys.executable, "-m", "{WORKER}", "--host", "{HOST}"]
c.Backend.cluster_options = Options(
    Mapping("environment", {{}}), Bool("nanny", False), Bool("never_starts", False), handler=configure
)
"""


@dataclass(frozen=True)
class GatewayServer:
    """A server, where it is, and what asks it."""

    program: Program
    address: str
    client: Any

    def kill_schedulers(self) -> None:
        kill_all(filter(_is_scheduler, self.program.processes()))


def _is_scheduler(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", SCHEDULER]
    except psutil.NoSuchProcess:  # it has exited since
        return False


@contextmanager
def gateway_server(folder: Path, **variables: str) -> Iterator[GatewayServer]:
    """Run a server that keeps its files in a folder; it is stopped with all its clusters, which get the variables."""
    configuration = folder / "gateway_config.py"
    configuration.write_text(CONFIGURATION)
    with running(start(folder / "gateway.log", "dask_gateway_server", "-f", configuration, **variables)) as program:

        def address() -> str:
            assert program.process.poll() is None, program.text()
            found = re.search(r"HTTP routes listening at (http://\S+)", program.text())
            return found[1] if found and answers(found[1]) else ""

        found = str(wait_for(address, "the gateway"))
        from dask_gateway import Gateway  # noqa: PLC0415  it may be missing

        yield GatewayServer(program, found, Gateway(found))  # the client closes itself; closed twice, it complains


def answers(address: str) -> bool:
    """Say whether the proxy at an address has found the server behind it."""
    try:
        with urllib.request.urlopen(f"{address}/api/health") as answer:  # noqa: S310  our own
            return answer.status == HTTPStatus.OK
    except OSError:
        return False
