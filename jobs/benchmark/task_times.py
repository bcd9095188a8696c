"""Let a scheduler print when each task ran: a preload of Dask, see `jobs.benchmark.timing.time_featurize`."""

import json
from typing import Any


def dask_setup(scheduler: Any) -> None:  # noqa: ANN401  a distributed.Scheduler
    """Let a scheduler that starts keep Dask's task stream, by asking for it once."""
    scheduler.get_task_stream()


def dask_teardown(scheduler: Any) -> None:  # noqa: ANN401  a distributed.Scheduler
    """Print start and stop of each task, in seconds since 1970: a line of JSON."""
    steps = [step for task in scheduler.get_task_stream() for step in task["startstops"]]
    print(json.dumps([(step["start"], step["stop"]) for step in steps if step["action"] == "compute"]), flush=True)
