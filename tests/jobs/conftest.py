"""A fixture for the benchmark, which times whole processes."""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool

import pytest

from jobs.benchmark import timing
from jobs.benchmark.loaders import NEED_TORCH
from jobs.benchmark.timing import Timing
from mimii.engine import ONE_THREAD
from tests.helpers.commands import run_here


@pytest.fixture
def programs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the modules that the benchmark times in this process: to start and import is most of what they take.

    What forks this process, which has threads, would be a risk: a pool has threads, and loaders of PyTorch are
    processes as ever.
    """
    time_process = timing.time_process

    def time_here(command: Sequence[str], environment: Mapping[str, str] = ONE_THREAD) -> Timing:
        _, _, module, *arguments = command
        if NEED_TORCH.intersection(arguments):
            return time_process(command, environment)
        started, wall, cpu = time.time(), time.perf_counter(), time.process_time()
        done = run_here(module.removeprefix("jobs."), *arguments, **environment)
        assert not done.returncode, done.stderr
        return Timing(started, time.perf_counter() - wall, time.process_time() - cpu, 1 << 20, done.stdout)

    monkeypatch.setattr(multiprocessing, "Pool", ThreadPool)
    monkeypatch.setattr(timing, "time_process", time_here)
