"""Who may import whom, how long a function may be, and what a worker must not load."""

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("mimii/**/*.py"), *ROOT.glob("jobs/**/*.py")])
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
LONGEST_FUNCTION = 40
HOUSE = (
    "jobs",
    "mimii",
    "verification",
    "detection",
    "images",
    "table",
    "engine",
    "recordings",
    "features",
    "storage",
    "_version",
)
"""The rooms from top to bottom: imports go down alone."""
PUBLIC_MODULES = {("storage", "s3"), ("storage", "zips")}
"""Modules that others may import as such."""


def imported_names(tree):
    """Return the full names of all that is imported anywhere in a module, nested and for types, too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= full if node.module == "mimii" else full | {node.module}
    return names


@functools.cache
def trees():
    """Return the syntax of each module; it is read when the first test needs it, not when tests are collected."""
    return {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


@functools.cache
def imports():
    """Return what each module imports."""
    return {module: imported_names(tree) for module, tree in trees().items()}


def importers(package):
    """Return the modules that import a package or anything below it."""
    return {
        module
        for module, names in imports().items()
        if any(name == package or name.startswith(f"{package}.") for name in names)
    }


def test_the_modules_are_found():
    assert {"mimii", "mimii.features.decode", "mimii.features.mel", "jobs", "jobs.featurize"} <= set(MODULES)


def room_of(module):
    """Return the room of a module; that of the front door is the last one of all."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mimii" and len(parts) > 1 else parts[0]


def arrows():
    """Yield from which room to which there is an import, and where."""
    for module, names in imports().items():
        for name in names & set(MODULES) | {name for name in names if f"{name}.__init__" in MODULES}:
            if room_of(name) != room_of(module):
                yield room_of(module), room_of(name), f"{module} imports {name}"


def test_the_rooms_are_those_of_the_house():
    assert {room_of(module) for module in MODULES} == set(HOUSE)


def test_imports_go_down_the_rooms():
    upwards = [where for source, target, where in arrows() if HOUSE.index(target) <= HOUSE.index(source)]
    assert not upwards


def test_rooms_import_only_what_other_rooms_say_they_may():
    """A room's ``__init__`` names what others may use, and that they import from the room itself."""
    inside = [
        f"{module} imports {name}"
        for module, names in imports().items()
        for name in names & set(MODULES)
        if name.count(".") == 2
        and name.startswith("mimii.")
        and room_of(name) != room_of(module)
        and not name.startswith(tuple(f"mimii.{room}.{public}" for room, public in PUBLIC_MODULES))
    ]
    assert not inside


@pytest.mark.parametrize("room", HOUSE[2:-1])
def test_a_room_has_no_public_name_that_is_a_module_of_it(room):
    """Importing the module would hide the name."""
    stub = ast.parse((ROOT / "mimii" / room / "__init__.pyi").read_text(encoding="utf-8"))
    modules = {path.stem for path in (ROOT / "mimii" / room).glob("*.py")}
    named = {alias.asname for node in stub.body if node.module for alias in node.names}
    assert not named & modules


def test_only_the_engine_imports_dask():
    knows = importers("dask") | importers("distributed")
    assert {room_of(module) for module in knows} == {"engine"}


def test_argparse_ends_at_the_commands():
    assert {room_of(module) for module in importers("argparse")} == {"jobs"}


@pytest.mark.parametrize(
    ("package", "only"),
    [
        ("soundfile", {"mimii.features.sndfile"}),
        ("zarr", {"mimii.table.reading", "jobs.benchmark.loaders"}),
        ("s3fs", {"mimii.storage.s3"}),
        ("zipfile", {"mimii.storage.zips", "mimii.detection.detectors", "jobs.benchmark.baselines"}),
        ("sklearn", {f"mimii.detection.{name}" for name in ("autoencoder", "pca", "precision")}),
        ("jinja2", {"mimii.detection.page"}),
        ("torch", {"mimii.table.torch_data", "jobs.benchmark.loaders"}),
        ("requests", {"mimii.storage.downloads"}),
        ("distributed", {f"mimii.engine.{file}" for file in ("cluster", "elsewhere", "partitions", "runs", "silence")}),
        ("PIL", {"mimii.images.pixels", "jobs.benchmark.image_baselines"}),
        ("matplotlib", {"mimii.images.drawings", "jobs.benchmark.image_baselines"}),
        ("matplotlib.pyplot", set()),
    ],
)
def test_one_module_alone_knows_a_package(package, only):
    assert importers(package) == only


def test_modules_do_not_import_each_other_in_circles():
    graph = {module: {name for name in names if name in MODULES} - {module} for module, names in imports().items()}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length_without_docstring(node):
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def test_functions_are_short():
    lengths = {
        f"{module}.{node.name}": length_without_docstring(node)
        for module, tree in trees().items()
        for node in functions(tree)
    }
    assert len(lengths) > len(MODULES)
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}


def undocumented(node, prefix):
    """Yield the names of public functions, classes and methods that have no docstring."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        if ast.get_docstring(child) is None:
            yield name
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, name)


def test_all_that_is_public_is_documented():
    assert not [module for module, tree in trees().items() if ast.get_docstring(tree) is None]
    assert not [name for module, tree in trees().items() for name in undocumented(tree, module)]
