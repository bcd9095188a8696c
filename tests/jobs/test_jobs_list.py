"""The list of jobs, each with the first line of its help; and how one is run by its name."""

import importlib
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint

import pytest
import xarray

from jobs.__main__ import _read_jobs, list_jobs, main
from mimii import __version__
from tests.helpers.commands import ROOT, contents, environment, run
from tests.helpers.recordings import write_machines

JOBS = list_jobs()
HAVE_A_VERSION = [name for name, text in _read_jobs().items() if "add_version(parser)" in text]


def command_module(job):
    """Import what ``python -m jobs.JOB`` runs."""
    module = importlib.import_module(f"jobs.{job}")
    return importlib.import_module(f"jobs.{job}.__main__") if hasattr(module, "__path__") else module


def test_every_command_is_listed():
    assert {"benchmark", "detect", "featurize", "fetch", "render", "score", "synthesize", "verify"} == set(JOBS)


def test_what_is_no_command_is_not_listed():
    assert not {"cluster", "options", "run", "baselines", "__main__"} & set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_the_line_of_a_job_begins_its_help(job):
    description = command_module(job).make_parser().description
    assert JOBS[job]
    assert description.startswith(f"{JOBS[job]}\n")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_takes_one_whole_line(job, capsys):
    assert main([]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if f"jobs.{job} " in line]
    assert line.endswith(JOBS[job])
    assert JOBS[job].endswith(".")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nope", ""), ("options", ""), ("--nope", ""), ("", ""), ("jobs.fetch", "fetch"), ("featurise", "featurize")],
)
def test_an_unknown_job_ends_with_2_and_the_list(name, meant, capsys):
    assert main([name]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"{name}: no such job{f'; did you mean {meant}?' if meant else ''}\n"
    assert "jobs.featurize" in printed.out


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_help_is_the_list(argument, capsys):
    main([])
    expected = capsys.readouterr().out
    assert main([argument]) == 0
    assert capsys.readouterr().out == expected


def test_a_job_is_run_by_its_name(tmp_path):
    arguments = ("--clips", "3", "--seconds", "0.1")
    done = run("__main__", "synthesize", tmp_path / "one", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    run("synthesize", tmp_path / "other", *arguments)
    assert contents(tmp_path / "one") == contents(tmp_path / "other") != {}


def test_the_status_of_a_job_is_passed_on(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["synthesize", str(tmp_path / "file")]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["synthesize", "--nope"])
    assert caught.value.code == 2
    assert "usage: python -m jobs.synthesize" in capsys.readouterr().err


def test_a_job_in_a_folder_is_run_by_its_name(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["benchmark", "--help"])
    assert caught.value.code == 0
    assert "python -m jobs.benchmark" in capsys.readouterr().out


def test_the_console_script_is_this_main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [(name, target)] = project["scripts"].items()
    assert name == project["name"] == "sound-features"
    assert EntryPoint(name, target, "console_scripts").load() is main


def test_without_arguments_those_of_the_process_count(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sound-features", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"sound-features {__version__}\n"


def test_the_version_is_an_option_of_all_commands_over_recordings():
    assert {"detect", "featurize", "fetch", "render", "synthesize"} <= set(HAVE_A_VERSION)


@pytest.mark.parametrize("job", HAVE_A_VERSION)
def test_a_job_prints_the_version(job, capsys):
    with pytest.raises(SystemExit) as caught:
        main([job, "--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sound-features {__version__}\n"


def imported_by(*arguments):
    """Return the modules that ``python -m jobs ARGUMENTS`` imports."""
    script = f"""
        import sys, jobs.__main__
        try:
            jobs.__main__.main({list(arguments)})
        except SystemExit:
            pass
        print(*sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_list_is_printed_without_importing_a_job():
    assert {name for name in imported_by() if name.startswith("jobs.")} == {
        "jobs.__main__",
        "jobs.process",
        "jobs.version",
    }


def test_a_job_is_run_without_importing_another():
    imported = imported_by("fetch", "--help")
    assert "jobs.fetch" in imported
    assert not {f"jobs.{job}" for job in JOBS if job != "fetch"} & imported


@pytest.mark.slow
def test_a_table_is_made_grows_and_is_learned_from_without_zarr(tmp_path):
    raw, table = tmp_path / "raw", tmp_path / "table"
    for n_clips in (8, 12):
        write_machines(raw, n_clips)
        words = ("featurize", str(raw), "--output", str(table), "--update", "--split", "baseline", "--workers", "1")
        assert not {"zarr", "xarray", "pandas", "bokeh"} & imported_by(*words)
    assert not {"zarr", "xarray"} & imported_by("detect", str(table), "--output", str(tmp_path / "found"))
    assert xarray.open_zarr(table).sizes["clip"] == 12


HEAVY = {"dask", "distributed", "matplotlib", "numcodecs", "numpy", "pandas", "PIL", "requests", "s3fs", "scipy"}
HEAVY |= {"sklearn", "soundfile", "tqdm", "xarray", "zarr"}


@pytest.mark.parametrize(
    "arguments",
    [(), *((job, "--help") for job in ("detect", "featurize", "fetch", "render", "synthesize"))],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments):
    assert not HEAVY & imported_by(*arguments)


@pytest.mark.parametrize("job", ["detect", "featurize", "render"])
def test_a_module_run_by_python_imports_nothing_heavy_for_its_help_either(job):
    command = [sys.executable, "-X", "importtime", "-m", f"jobs.{job}", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mimii" in imported
    assert not HEAVY & imported
