"""The pages of the documentation: links, code, options, the schema, and every reason of a bad clip."""

import ast
import importlib.util
import os
import re
from pathlib import Path

import pytest
import xarray

from jobs.__main__ import list_jobs
from mimii.table.store import SCHEMA
from tests import options_pages
from tests.helpers.commands import ROOT, build, plan_table
from tests.helpers.recordings import write_machines

DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
ALL_FILES = sorted(
    [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "notebooks" / "README.md"]
)
DECISION_HEADINGS = ["Context", "Decision", "Consequences", "What would change it"]
REASONS_ARE_IN = (
    "features/containers",
    "features/decode",
    "features/sndfile",
    "features/loading",
    "features/recording",
    "features/resampling",
    "features/mel",
    "recordings/catalogue",
    "recordings/sources",
    "storage/problems",
    "storage/zips",
    "features/children",
)
NO_REASONS = {
    "{}: not a member of an archive",
    "not a whole zip archive ({}): still being downloaded, or cut off",
    "its directory claims to be {} bytes long",
    "{}: no such file or folder",
    "{}: a list is no source: use --list {}, or lists= in Python",
    "{}: no such object or prefix",
    "{}: {}. Remove it, or resume an interrupted download: python -m jobs.fetch",
    "{}: cannot be accessed: {}",
    "cannot read recordings in a process of its own: {}",
    "its exit status was {}{}",
    "a process of %s said: %s",
    "FLAC does not take {} Hz",  # of the sound in a report
    "possibly a pipe",  # of libsndfile, and what is said in its place
    "no MPEG audio that can be decoded",
    "of %d mel bands, %d have no frequency bin at n_fft %d and are always silent; use fewer n_mels, or a larger n_fft",
    (
        "the features are for %d Hz, and of the recordings, %s: those at other rates become bad clips. Resample them "
        "with --sample-rate %d (sample_rate=%d in Python), or make a table for each rate"
    ),
    "clips must be what mimii.find_recordings returns",
    # parts of reasons
    "{} {} {} Hz",
    "to more than",
    "to {} and not to",
    "exit status {}",
}
"""Messages of jobs that stop, warnings, and parts of reasons that are found whole elsewhere."""


def sentences(module: str) -> set[str]:
    """Return the strings of a module that have two words or more, with {} in place of values."""
    tree = ast.parse((ROOT / "mimii" / f"{module}.py").read_text(encoding="utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = (text_of(node) for node in ast.walk(tree) if id(node) not in left_out)
    return {text for text in texts if re.search(r"[a-z]{2} [a-z{]", text)}


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return re.sub(r"\{\w+\}", "{}", node.value) if isinstance(node.value, str) else ""
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)


def documented_reasons() -> list[str]:
    return re.findall(r"^\| `(.+?)` \|", PAGES["bad_clips"], re.MULTILINE)


def reasons_of(module: str) -> set[str]:
    return {re.sub(r"\{\}", "...", text) for text in sentences(module) - NO_REASONS}


@pytest.mark.parametrize("module", REASONS_ARE_IN)
def test_every_reason_of_a_bad_clip_is_documented(module):
    assert reasons_of(module)
    assert reasons_of(module) - set(documented_reasons()) == set()


def test_every_documented_reason_is_in_the_code():
    assert set(documented_reasons()) - set().union(*map(reasons_of, REASONS_ARE_IN)) == set()


@pytest.mark.parametrize("job", list_jobs())
def test_every_job_has_a_page(job):
    assert f"jobs.{job}" in PAGES[options_pages.guide_of(job)]
    assert f"](options/{job}.md)" in PAGES[options_pages.guide_of(job)]


@pytest.mark.parametrize("job", list_jobs())
def test_the_options_of_a_job_are_up_to_date(job):
    path = options_pages.FOLDER / f"{job}.md"
    assert path.read_text(encoding="utf-8") == options_pages.make_page(job), "run python -m tests.options_pages"


def test_there_are_no_options_of_other_jobs():
    assert {path.stem for path in options_pages.FOLDER.glob("*.md")} == set(list_jobs())


def test_every_page_is_in_the_index():
    assert {f"{page}.md" for page in PAGES} - {"README.md"} <= set(re.findall(r"\]\((\w+\.md)\)", PAGES["README"]))


@pytest.mark.parametrize("path", sorted(DOCS.glob("decisions/0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_date_four_sections_and_a_place_in_the_index(path):
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^Date: \d{4}-\d\d$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == DECISION_HEADINGS
    assert f"]({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", link):
            name, _, heading = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def headings(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_schema_is_that_of_the_store():
    rows = re.findall(r"^\| (`.+?`) \| ([\w, ]+) \| ([\w, ]+) \|", PAGES["store"], re.MULTILINE)
    documented = {}
    for names, dimensions, types in rows:
        listed = re.findall(r"`(\w+)`", names)
        kinds = types.split(", ") * (len(listed) if ", " not in types else 1)
        documented |= {name: (tuple(dimensions.split(", ")), kind) for name, kind in zip(listed, kinds, strict=True)}
    assert documented == dict(SCHEMA)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write a table of more clips than the examples read."""
    folder = tmp_path_factory.mktemp("store")
    write_machines(folder / "raw", 24, n_samples=160_000)
    return build(plan_table(folder / "raw"), folder / "features.zarr")


def test_the_attributes_are_those_of_the_store(table):
    named = re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)?) \|[^|]*\|$", PAGES["store"], re.MULTILINE))
    )
    assert set(xarray.open_zarr(table).attrs) == set(named)


def run_code(page: str, table: Path) -> int:
    """Run the code of a page, but what needs packages that are not installed; return how many pieces have run."""
    names = {"STORE": os.fspath(table)}
    missing = [name for name in ("torch", "keras", "tensorflow") if importlib.util.find_spec(name) is None]
    n_run = 0
    for code in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
        if not any(re.search(rf"import .*\b{name}\b", code) for name in missing):
            exec(code, names)  # noqa: S102  a page of this project
            n_run += 1
    return n_run


def test_the_code_that_reads_a_store_runs(table, capsys):
    assert run_code("store", table) >= 5
    assert "(309, 320)" in capsys.readouterr().out


def test_the_code_that_reads_for_training_runs(table):
    assert run_code("train", table) >= 3
