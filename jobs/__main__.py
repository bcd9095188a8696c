"""``sound-features JOB ...`` or ``python -m jobs JOB ...``: run a job, or list all of them.

A job's line in the list is the first one of its own docstring. Files are read and not imported, so that the list is
there at once.
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.version import VERSION
from mimii.storage import did_you_mean

_MAKES_IT_A_JOB = "\ndef make_parser("
_HINT = (
    "sound-features JOB ... runs one, as python -m jobs.JOB ... does; with --help, it lists the options. "
    "docs/ has a page with an example for each."
)


def list_jobs() -> dict[str, str]:
    """Return the names of the jobs, with a line about each."""
    return {name: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for name, text in _read_jobs().items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the first argument names, or print the list; return the exit status, 2 for an unknown job."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "--version":
        print(VERSION)
        return 0
    if name in _read_jobs():
        return _run(name, rest)
    is_question = name in {"-h", "--help"}
    if not is_question:
        print(f"{name}: no such job{did_you_mean([name], _read_jobs())}", file=sys.stderr)
    jobs = list_jobs()
    width = max(map(len, jobs))
    print("\n".join(["jobs:", *(f"  python -m jobs.{job:<{width}}  {line}" for job, line in jobs.items()), "", _HINT]))
    return 0 if is_question else 2


def _read_jobs() -> dict[str, str]:
    """Return the source of each command here; commands are known by their `make_parser`."""
    folder = Path(__file__).parent
    sources = {path: path.read_text(encoding="utf-8") for path in (*folder.glob("*.py"), *folder.glob("*/__main__.py"))}
    jobs = {_name(path): text for path, text in sources.items() if _MAKES_IT_A_JOB in text}
    return dict(sorted(jobs.items()))


def _name(path: Path) -> str:
    return path.parent.name if path.stem == "__main__" else path.stem


def _run(name: str, arguments: Sequence[str]) -> int:
    module = importlib.import_module(f"jobs.{name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"jobs.{name}.__main__")
    status: int = module.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
