"""The list of jobs: all of them, each with the first line of its help."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import list_jobs, main

JOBS = list_jobs()


def command_module(job):
    """Import what ``python -m jobs.JOB`` runs."""
    module = importlib.import_module(f"jobs.{job}")
    return importlib.import_module(f"jobs.{job}.__main__") if hasattr(module, "__path__") else module


def test_every_command_is_listed():
    assert {"benchmark", "detect", "featurize", "fetch", "render", "synthesize", "verify"} == set(JOBS)


def test_what_is_no_command_is_not_listed():
    assert not {"cluster", "options", "run", "baselines", "__main__"} & set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_the_line_of_a_job_begins_its_help(job):
    description = command_module(job).make_parser().description
    assert JOBS[job]
    assert description.startswith(f"{JOBS[job]}\n")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_takes_one_whole_line(job, capsys):
    assert main() == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if f"jobs.{job} " in line]
    assert line.endswith(JOBS[job])
    assert JOBS[job].endswith(".")


@pytest.mark.parametrize(("asked", "said"), [("nope", "no such job"), ("verify", "meant is python -m jobs.verify")])
def test_what_is_no_way_to_start_a_job_ends_with_2(asked, said, capsys):
    assert main([asked]) == 2
    told = capsys.readouterr()
    assert f"{asked}: " in told.err
    assert said in told.err
    assert "jobs.featurize" in told.out


def test_the_list_is_printed_without_importing_a_job():
    script = "import sys, jobs.__main__ as m; m.main(); print([name for name in sys.modules if 'jobs.' in name])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['jobs.__main__']"
