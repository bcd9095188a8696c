"""What is said when no result comes for a while: what is known of the workers, and that they are waited for."""

import logging
import time
from contextlib import suppress
from typing import Any

from distributed import Client

_SECONDS_OF_SILENCE = 20.0
_SECONDS_BETWEEN_LOOKS = 5.0
_log = logging.getLogger(__name__)


class Silence:
    """Watches how long there was no result, and warns where workers cannot be expected to bring one."""

    def __init__(self, client: Client) -> None:
        self._client, self._said, self._sign = client, "", 0.0
        self._since = self._looked = self._noticed = time.monotonic()

    def end(self) -> None:
        """Take note that there was a result."""
        self._since, self._said = time.monotonic(), ""

    def look(self, n_tasks: int) -> None:
        """Warn once of each state of the workers in which no result can come; so many tasks wait for them."""
        now = time.monotonic()
        if now - self._since < _SECONDS_OF_SILENCE or now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        with suppress(OSError):  # whether the scheduler is lost, the tasks show
            found = self._client.sync(_ask, self._client, callback_timeout=_SECONDS_BETWEEN_LOOKS)
            workers = list(found["workers"].values())
            sign = max((worker["last_seen"] for worker in workers), default=0.0)
            if sign != self._sign:  # by the scheduler's clock, which may differ from ours
                self._sign, self._noticed = sign, now
            state = describe(found["address"], workers, is_silent=now - self._noticed > _SECONDS_OF_SILENCE)
            if state and state != self._said:
                _log.warning("no result for %d s: %s. Waiting; tasks under way: %d", now - self._since, state, n_tasks)
            self._said = state


def describe(scheduler: str, workers: list[dict[str, Any]], *, is_silent: bool) -> str:
    """Say why no result comes; empty where workers are at work, which may take long."""
    if not workers:
        return f"no worker is left at {scheduler}; start some, such as with 'dask worker {scheduler}'"
    paused = [worker for worker in workers if worker["status"] == "paused"]
    if len(paused) == len(workers):
        limits = sorted({f"{worker['memory_limit'] / 2**20:,.0f} MiB" for worker in paused})
        return f"all workers are paused ({len(workers)}), since their memory is full (limit {', '.join(limits)})"
    return f"no sign of any of the workers ({len(workers)}) for {_SECONDS_OF_SILENCE:.0f} s" if is_silent else ""


async def _ask(client: Client) -> dict[str, Any]:
    """Return what the scheduler knows of all its workers."""
    assert client.scheduler is not None  # it is None before a client has started
    found: dict[str, Any] = await client.scheduler.identity(n_workers=-1)
    return found
