"""docs/errors.md has every exception of the front door, with its message as it is really printed."""

import re

import pytest

import mimii
from mimii.engine import hold
from mimii.storage import Access, open_objects
from tests.helpers.commands import ROOT
from tests.helpers.recordings import write_machines

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
NO_SERVER = Access((("endpoint_url", "http://127.0.0.1:1"), ("anon", "true")), timeout=0.3)


def exported():
    values = {name: getattr(mimii, name) for name in mimii.__all__}
    return {name: one for name, one in values.items() if isinstance(one, type) and issubclass(one, Exception)}


class Deletes:
    """Progress that deletes what was written, as a colleague might."""

    def __init__(self, shard):
        self.shard = shard

    def start(self, *_):
        pass

    def advance(self, *_):
        self.shard.unlink()

    def end(self):
        pass


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Return the plan of a table of two clips."""
    folder = tmp_path_factory.mktemp("recordings")
    write_machines(folder, 2)
    return mimii.plan_table(mimii.find_recordings(folder), split="none")


@pytest.fixture(autouse=True)
def _in_a_folder_with_an_empty_recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "press.wav").touch()


def write_beside_another(plan, folder):
    with hold(open_objects(f"{folder}/features.zarr", Access()), "other results"):
        mimii.featurize(plan, "features.zarr")


PROVOKE = {
    "SourceError": lambda *_: mimii.find_recordings("recordings"),
    "LocationError": lambda *_: mimii.open_table("s3:/bucket/features.zarr"),
    "LayoutError": lambda *_: mimii.find_recordings("raw", layout="{machine_id}{label}.wav"),
    "NameOfArchiveError": lambda *_: mimii.verify("features.zarr", complete="6_dB_fans"),
    "StorageError": lambda *_: mimii.find_recordings("s3://bucket/raw", access=NO_SERVER),
    "SpecError": lambda *_: mimii.FeatureSpec.preset("explore", fmax=9000.0),
    "AudioError": lambda *_: mimii.log_mel("press.wav"),
    "LearningError": lambda *_: mimii.Training("neighbors"),
    "StoreError": lambda *_: mimii.open_table("features.zarr"),
    "BusyError": write_beside_another,
    "UnfinishedError": lambda plan, folder: mimii.featurize(
        plan, "features.zarr", progress=Deletes(folder / "features.zarr/features/c.0.0")
    ),
    "SchedulerError": lambda plan, _: mimii.featurize(plan, "features.zarr", client=mimii.Where("host:8786")),
    "WorkError": lambda plan, _: mimii.featurize(
        plan, "features.zarr", client=mimii.Where("tcp://127.0.0.1:1", timeout=0.5)
    ),
}


def without_what_varies(message, folder):
    """Return a message without its folder, process and time, and without what libraries say."""
    message = re.sub(r"process \d+ on \S+, since [^)]+", "process", message.replace(str(folder), "/data"))
    return re.sub(r"(no useful answer for .*? s|\(--timeout\)): .*", r"\1", message)


def test_the_page_has_every_exception_of_the_front_door():
    assert set(SECTIONS) == set(exported()) == set(PROVOKE)


@pytest.mark.parametrize("name", PROVOKE)
def test_the_message_on_the_page_is_the_real_one(name, plan, tmp_path):
    with pytest.raises(exported()[name]) as caught:
        PROVOKE[name](plan, tmp_path)
    assert type(caught.value) is exported()[name]
    [documented] = re.findall(r"^    (.+)$", SECTIONS[name], re.MULTILINE)
    assert without_what_varies(str(caught.value), tmp_path) == without_what_varies(documented, tmp_path)


@pytest.mark.parametrize("name", PROVOKE)
def test_the_page_names_its_base_class(name):
    named = re.search(r"An? `(\w+)`", SECTIONS[name])
    assert named
    assert named[1] in {base.__name__ for base in exported()[name].__mro__[1:]}
