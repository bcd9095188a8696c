"""Fixtures for all tests, and the check that the real recordings were really used."""

import functools
import gc
import hashlib
import os
import pickle
import signal
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests.certs
from botocore.loaders import JSONFileLoader
from threadpoolctl import threadpool_limits

from mimii.engine import cluster, runs
from mimii.images import contact_sheet
from mimii.images.drawings import draw_overview
from mimii.recordings import Clip, headers, read_clip_header
from mimii.storage import Access, s3
from tests.helpers.servers import S3Address, Server, moto_server, rclone_server

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

VARIABLE = "MIMII_TEST_RECORDINGS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-recordings", action="store_true", help=f"fail unless tests used {VARIABLE}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real_recordings" in getattr(item, "fixturenames", ()):
            item.add_marker("recordings")


def pytest_collection() -> None:
    """Look for no garbage while tests are collected: they stay to the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Never look at them again: a twentieth of all time went into it."""
    gc.freeze()
    gc.enable()


for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:  # as nohup and shells leave it for what runs in the background
        signal.signal(_number, _default)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = []


_USED = pytest.StashKey[list[str]]()


class _Count:
    """Counts, on the process that collects reports, the tests with real recordings that passed."""

    def __init__(self, used: list[str]) -> None:
        self.used = used

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed and "recordings" in report.keywords:
            self.used.append(report.nodeid)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Count(session.config.stash[_USED]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.freeze()  # before it exits, pytest would look for garbage among all there is: for some seconds
    on_worker = hasattr(session.config, "workerinput")
    if session.config.option.require_recordings and not on_worker and not session.config.stash[_USED]:
        print(f"\nno test used the recordings in {VARIABLE}={os.environ.get(VARIABLE)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """Return the folder of real recordings; skip where there is none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder of real MIMII recordings")
    assert Path(folder).is_dir(), f"{VARIABLE}={folder} is not a folder"
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _no_profile() -> Iterator[None]:
    """Keep the profile of whoever runs the tests out of them: botocore insists on it where it is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_wait_for_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete at once what was replaced: in this process nobody else reads it. Commands that are started wait."""
    monkeypatch.setattr(runs, "SECONDS_FOR_READERS", 0)


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave files in the memory of the system, as `tests.helpers.warm` does for commands: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True, scope="session")
def _headers_are_read_here() -> Iterator[None]:
    """Read headers that libsndfile reads in this process: a child takes a quarter of a second for each run.

    Commands that are started read them in children, and so do tests that use `headers_in_children`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "probe", _read_headers_here)
        yield


_READ_IN_CHILDREN = headers.probe


def _read_headers_here(clips: Sequence[Clip], access: Access) -> list[Clip]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda clip: read_clip_header(clip, access), clips))


@pytest.fixture
def headers_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read headers as users do."""
    monkeypatch.setattr(headers, "probe", _READ_IN_CHILDREN)


@pytest.fixture(autouse=True)
def _short_waits_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask S3 again soon: in this process it is a server of the tests that fails as it is told to."""
    monkeypatch.setattr(s3, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(s3, "_LONGEST_WAIT", 0.1)


@pytest.fixture(autouse=True, scope="session")
def _models_of_botocore_are_parsed_once() -> Iterator[None]:
    """Parse botocore's description of S3 once: each new file system would take a tenth of a second for it."""
    load = functools.cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_certificate_is_trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have S3's clients load one certificate of an authority, not 140: that takes longer than what a test asks of S3.

    No server of the tests has TLS. Commands that are started load this one, too.
    """
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text("".join(Path(requests.certs.where()).read_text().partition(_END_OF_CERTIFICATE)[:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(path))
        yield


_END_OF_CERTIFICATE = "-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True, scope="session")
def _libraries_have_one_thread() -> Iterator[None]:
    """Do not limit threads where the environment has done so: each run would look for libraries, for 10 ms.

    Commands that are started limit them as ever, and so do tests that use `threads_are_limited`.
    """
    if {os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")} != {"1"}:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "threadpool_limits", nullcontext)
        yield


@pytest.fixture
def threads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the threads of numerical libraries as for users."""
    monkeypatch.setattr(cluster, "threadpool_limits", threadpool_limits)


@pytest.fixture(scope="session")
def _moto() -> Iterator[Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def moto(_moto: Server) -> Server:
    """Serve objects in memory, without looking at signatures; it starts once, and each module finds it empty."""
    request = urllib.request.Request(f"{_moto.endpoint}/moto-api/reset", method="POST")  # noqa: S310  our own
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    return _moto


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve objects as files, to those who sign."""
    with rclone_server(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> Server:
    """Return one S3 server after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True, scope="session")
def _overviews_are_drawn_once() -> Iterator[None]:
    """Draw an overview once, however many albums have it: matplotlib takes a quarter of a second for each."""
    drawn: dict[bytes, bytes] = {}

    def draw_or_remember(*arguments: Any) -> bytes:
        key = hashlib.sha256(pickle.dumps(arguments)).digest()
        if key not in drawn:
            drawn[key] = draw_overview(*arguments)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contact_sheet, "draw_overview", draw_or_remember)
        yield


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[S3Address], S3Address]]:
    """Return what makes this process use an S3 server: credentials are looked for once, and forgotten again."""

    def use(address: S3Address) -> S3Address:
        s3.open_filesystem.cache_clear()
        for name, value in address.environment.items():
            monkeypatch.setenv(name, value)
        return address

    yield use
    s3.open_filesystem.cache_clear()
