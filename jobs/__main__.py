"""``python -m jobs``: which jobs there are, with a line for each: the first one of its own docstring.

Files are read and not imported, so that the list is there at once.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_MAKES_IT_A_JOB = "make_parser"
_HINT = "python -m jobs.NAME --help tells the options of one; docs/ has a page for each, with an example."


def list_jobs() -> dict[str, str]:
    """Find the modules here that are commands, by their `make_parser`."""
    return dict(sorted(_find_jobs(Path(__file__).parent)))


def main(arguments: Sequence[str] = ()) -> int:
    """Print the list; return the exit status, 2 where something is asked for that is no job."""
    jobs = list_jobs()
    if arguments and arguments[0] not in {"-h", "--help"}:
        meant = f"meant is python -m jobs.{arguments[0]}" if arguments[0] in jobs else "there is no such job"
        print(f"{arguments[0]}: {meant}", file=sys.stderr)
    else:
        arguments = ()
    width = max(map(len, jobs))
    lines = (f"  python -m jobs.{name:<{width}}  {summary}" for name, summary in jobs.items())
    print("\n".join(["jobs:", *lines, "", _HINT]))
    return 2 if arguments else 0


def _find_jobs(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__main__.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == _MAKES_IT_A_JOB for node in tree.body):
            name = path.parent.name if path.stem == "__main__" else path.stem
            yield name, (ast.get_docstring(tree) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
