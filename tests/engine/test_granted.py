"""CPUs and memory that control groups grant, of both versions, nested and as containers see them."""

import os
import resource
import subprocess
import sys

import pytest

from mimii.engine import Where, WorkError, cluster, connect, limits, schedulers
from mimii.engine.granted import DRIVER_BYTES, WORKER_BYTES, granted_cpus, granted_memory
from mimii.engine.limits import allow_workers, worker_memory
from tests.helpers.commands import ROOT, environment

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def group(tmp_path):
    """Return what makes the files of control groups, and where they are."""

    def make(lines, files):
        (tmp_path / "cgroup").write_text(lines)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "cgroup", tmp_path / "fs"

    return make


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000000\n"}, 1_000_000),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/a/b\n", {"a/memory.max": "3000000\n", "a/b/memory.max": "max\n"}, 3_000_000),
        ("0::/a/b\n", {"a/memory.max": "3000000\n", "a/b/memory.max": "2000000\n"}, 2_000_000),
        ("0::/host/path\n", {"memory.max": "1000000\n"}, 1_000_000),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "5000000\n"}, 5_000_000),
        ("4:memory:/host/path\n", {"memory/memory.limit_in_bytes": "6000000\n"}, 6_000_000),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("4:memory:/\n0::/b\n", {"unified/b/memory.max": "7000000\n"}, 7_000_000),
        ("0::/\n", {}, MACHINE),
    ],
)
def test_memory_is_the_least_that_any_group_grants(group, lines, files, expected):
    assert granted_memory(*group(lines, files)) == expected


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        ("3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "9\n", "cpu,cpuacct/a/cpu.cfs_period_us": "10\n"}, 1),
        ("3:cpuacct,cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "9\n", "cpu/a/cpu.cfs_period_us": "10\n"}, 1),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, CPUS),
        ("0::/\n", {"cpu.max": "100000000 100000\n"}, CPUS),
    ],
)
def test_cpus_are_the_least_that_affinity_and_quotas_grant(group, lines, files, expected):
    assert granted_cpus(*group(lines, files)) == expected


def test_where_there_are_no_groups_the_machine_counts(tmp_path):
    nowhere = (tmp_path / "none", tmp_path)
    assert (granted_cpus(*nowhere), granted_memory(*nowhere)) == (CPUS, MACHINE)


def test_workers_are_as_many_as_there_is_room_for_unless_they_are_given(monkeypatch):
    monkeypatch.setattr(schedulers, "granted_cpus", lambda: 64)
    monkeypatch.setattr(schedulers, "granted_memory", lambda: DRIVER_BYTES + 5 * WORKER_BYTES + 1)
    assert schedulers.default_workers() == 5
    assert schedulers.default_workers(is_remote=True) == 2, "each has three tasks, which fetch ahead"
    monkeypatch.setattr(schedulers, "granted_memory", lambda: 1)
    assert schedulers.default_workers() == 1
    monkeypatch.setattr(schedulers, "granted_cpus", lambda: 3)
    monkeypatch.setattr(schedulers, "granted_memory", lambda: 1 << 40)
    assert schedulers.default_workers() == 3


def test_each_worker_has_its_share_of_what_the_group_grants(monkeypatch):
    monkeypatch.setattr(limits, "granted_memory", lambda: DRIVER_BYTES + (3 << 30))
    assert worker_memory(3) == 1 << 30


def test_workers_that_come_and_go_share_memory_as_if_all_were_there(monkeypatch):
    asked, allowed = [], []
    monkeypatch.setattr(cluster, "allow_workers", allowed.append)
    monkeypatch.setattr(cluster, "worker_memory", lambda n: asked.append(n) or 1 << 30)

    def stop(how):
        raise KeyError(how["n_workers"])

    monkeypatch.setattr(cluster, "_start_local", stop)
    monkeypatch.setattr(cluster, "default_workers", lambda: 32)
    with pytest.raises(KeyError, match="1"), connect(Where("local", adapt=(1, 2))):
        pass
    assert (asked, allowed) == ([2], [2])


def test_too_little_memory_for_the_workers_is_said_with_the_limit_and_the_way_out(monkeypatch):
    monkeypatch.setattr(limits, "granted_memory", lambda: 300 << 20)
    message = (
        "2 workers on this machine need 456 MiB of memory at least, and the machine, or its control group, has 300 "
        "MiB: take fewer (--workers N), or use --scheduler sync"
    )
    with pytest.raises(WorkError) as raised, connect(Where("local", 2)):
        pass
    assert str(raised.value) == message


def test_too_few_addresses_are_said_in_a_line():
    script = (
        "import resource; from jobs import featurize; from mimii.engine.limits import allow_workers\n"
        "from mimii.engine import WorkError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (900 << 20, -1))\n"
        "try: allow_workers(2)\n"
        "except WorkError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    wanted = "2 workers on this machine need 960 MiB of addresses at least, and ulimit -v allows 900 MiB: raise that, "
    assert done.stdout.startswith(wanted), done.stderr


def test_without_limits_workers_are_allowed():
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        allow_workers(1)
