"""Pages in docs/options, one for each job: its help. ``python -m tests.options_pages`` writes them."""

import importlib
import importlib.util
import os
import re
from unittest import mock

from jobs.__main__ import list_jobs
from tests.helpers.commands import ROOT

FOLDER = ROOT / "docs" / "options"
GUIDES = {"synthesize": "fetch", "benchmark": "benchmarks"}
"""Pages that explain several jobs, or have another name than the job; all others have the job's name."""

_COLUMNS = "100"
_REPEATED_METAVAR = re.compile(r"(--[\w-]+) ([A-Z]\S*), (--[\w-]+ \2\b)")
_PAGE = """\
# Options of jobs.{job}

`python -m jobs.{job} --help` prints this. [How the job is used](../{guide}.md).

```text
{help}```
"""


def guide_of(job: str) -> str:
    return GUIDES.get(job, job)


def make_page(job: str) -> str:
    return _PAGE.format(job=job, guide=guide_of(job), help=help_of(job))


def help_of(job: str) -> str:
    """Return the help of a job, the same on any machine and with any supported version of Python."""
    name = f"jobs.{job}"
    spec = importlib.util.find_spec(name)
    is_package = spec is not None and spec.submodule_search_locations is not None
    module = importlib.import_module(f"{name}.__main__" if is_package else name)
    with mock.patch.dict(os.environ, COLUMNS=_COLUMNS):
        text = module.make_parser().format_help()
    return _REPEATED_METAVAR.sub(r"\1, \3", text)  # Python 3.13 writes a metavar once


def main() -> None:
    """Write all pages; delete those of jobs that do not exist."""
    FOLDER.mkdir(exist_ok=True)
    pages = {FOLDER / f"{job}.md": make_page(job) for job in list_jobs()}
    for path in set(FOLDER.glob("*.md")) - set(pages):
        path.unlink()
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
