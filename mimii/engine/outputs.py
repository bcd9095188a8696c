"""An output: what a plan leaves at one place. A table, an album of images and findings are outputs.

What they share is here: look at what is there, begin, finish, erase. Each has a few methods for the rest.
"""

import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar, Protocol, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from mimii._version import __version__
from mimii.engine.pipeline import Pipeline
from mimii.engine.records import Record, Stamp, is_in_place, is_valid, read_each
from mimii.storage import PARTIAL, Objects, as_unicode, be, numbered, path_to_text

LEASE = "lease-"
"""What the names of leases begin with."""

_MOST_NAMED = 10
_LEFT_BY_SYSTEMS = frozenset((PARTIAL, ".DS_Store", "Thumbs.db", "desktop.ini", "lost+found", ".Trashes", ".fseventsd"))
_LICENSE = "The {what} are derived from the recordings and come under their licence; MIMII is CC BY-SA 4.0."
_ATTRIBUTION = (
    "Where the recordings are of MIMII: Purohit, Tanabe, Ichige, Endo, Nikaido, Suefusa, Kawaguchi: MIMII Dataset, "
    "Hitachi, Ltd., doi:10.5281/zenodo.3384388"
)


class StoreError(RuntimeError):
    """An output that is not ours to write, or that holds other results; the message says what to do."""


class ChangedError(StoreError):
    """An output that another run has changed since this one was planned: to be planned again."""


class UnfinishedError(RuntimeError):
    """An output that lacks results when it is to be finished; the message says which."""


OutputType = TypeVar("OutputType")


@dataclass(frozen=True, slots=True)
class Head:
    """The document of an output that says what it is; it is written first, and last once all is finished.

    Attributes
    ----------
    key : str
        Of the document, which is JSON.
    title, kind : str
        What its attributes have as a title; what messages call such an output.
    read : callable
        From the document's values to the attributes and whether all is finished.
    unfinish : callable
        From the document's values to those of an unfinished one.

    """

    key: str
    title: str
    kind: str
    read: Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], bool]] = lambda values: (values, values["finished"])
    unfinish: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: {**values, "finished": False}


@dataclass(frozen=True, slots=True)
class Existing:
    """What the head at an output says: the attributes, and whether all is finished; and the document itself."""

    kind: str
    attributes: Mapping[str, Any]
    finished: bool
    document: Mapping[str, Any] = field(compare=False)


class Output(Protocol):
    """What one plan leaves at one place."""

    @property
    def objects(self) -> Objects:
        """Where it is."""
        ...

    @property
    def head(self) -> Head:
        """The document that says what it is."""
        ...

    @property
    def parts(self) -> Sequence[str]:
        """Names below the root that belong to it, the records first: what erasing it deletes."""
        ...

    @property
    def replaced(self) -> Sequence[str]:
        """Folders of which only the last documents stay when it is finished."""
        ...

    @property
    def ahead(self) -> Sequence[str]:
        """Folders of which the last documents are written before the others."""
        ...

    @property
    def purpose(self) -> str:
        """Digest of all that is written: two runs of one purpose write the same."""
        ...

    def at(self, existing: Existing | None) -> "Output":
        """Return the same output, stored as what is there."""
        ...

    def beside(self, existing: Existing) -> "Output | None":
        """Return the same output, made beside what is there; None where it can only be made in its place."""
        ...

    def find_replaced(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the stored keys of what this output has replaced, or of what was begun beside it and not finished."""
        ...

    def delete_replaced(self, keys: Iterable[str]) -> None:
        """Delete such objects."""
        ...

    @property
    def noun(self) -> str:
        """What one task makes: shard, batch, machine."""
        ...

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether tasks wait for a network."""
        ...

    def record_key(self, task: int) -> str:
        """Return the key of the record of a task."""
        ...

    def stamp(self, task: int) -> Stamp:
        """Return what the record of a task must bear."""
        ...

    def accepts(self, record: Record) -> bool:
        """Say whether a valid record has the results that `last_documents` needs."""
        ...

    def can_retry(self, record: Record) -> bool:
        """Say whether a valid record has clips that are to be read again."""
        ...

    def bad_clips(self, record: Record) -> Iterable[int]:
        """Return the clips that turned out to be bad."""
        ...

    def former(self, task: int, record: Record | None, sizes: Mapping[str, int]) -> Record | None:
        """Return the record of what is there of a task that is to be done, where some of it may be kept."""
        ...

    def recall(self, todo: Sequence[int], sizes: Mapping[str, int]) -> "Output":
        """Return the same output with what its tasks may keep, having made sure that their writes cannot lose it."""
        ...

    def task(self, task: int, former: Record | None = None) -> Any:  # noqa: ANN401  each output has tasks of its own type
        """Return all that a worker needs to know of a task; `former` is the record of what is there of it."""
        ...

    @property
    def pipeline(self) -> Pipeline:
        """What is mapped over a bag of tasks: a record comes of each."""
        ...

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips that a task reads."""
        ...

    def n_clips(self, task: int) -> int:
        """Count the clips that are finished with a task, for progress."""
        ...

    def differences(self, existing: Existing) -> list[str]:
        """Say how what is at the output differs; empty where it is the same."""
        ...

    def first_documents(self) -> dict[str, bytes]:
        """Return all that is known before the work, the head among it, unfinished."""
        ...

    def collect(
        self, existing: Existing | None, records: Mapping[int, Record], sizes: Mapping[str, int]
    ) -> Iterable[dict[str, bytes]]:
        """Yield documents that are made of what tasks have left, some at a time; they come before the last ones."""
        ...

    def surplus(self, records: Mapping[int, Record], sizes: Mapping[str, int]) -> set[str]:
        """Return the keys of what killed writers have left, to be deleted in the end."""
        ...

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return all that is written when every task is done, the head among it, finished."""
        ...

    def is_whole(self, existing: Existing, records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether an output that calls itself finished has all of its documents."""
        ...


class InPlace:
    """What most outputs do alike: they are made where they are, a task as a whole, and nothing has to be collected."""

    __slots__ = ()
    ahead: ClassVar[tuple[str, ...]] = ()

    def at(self, _existing: Existing | None) -> Self:
        """Return itself: there is one way to store it."""
        return self

    def beside(self, _existing: Existing) -> None:
        """Make it in the place of what is there."""

    def find_replaced(self, _sizes: Mapping[str, int]) -> list[str]:
        """Replace nothing that would have to be deleted."""
        return []

    def delete_replaced(self, _keys: Iterable[str]) -> None:
        """Delete nothing."""

    def can_retry(self, record: Record) -> bool:
        """Say whether there are clips to be read again."""
        return bool(record.unread)

    def bad_clips(self, record: Record) -> Iterable[int]:
        """Return the clips that could not be read."""
        return record.bad

    def former(self, _task: int, _record: Record | None, _sizes: Mapping[str, int]) -> None:
        """Keep nothing of a task that is to be done."""

    def recall(self, _todo: Sequence[int], _sizes: Mapping[str, int]) -> Self:
        """Keep nothing of any task that is to be done."""
        return self

    def collect(
        self, _existing: Existing | None, _records: Mapping[int, Record], _sizes: Mapping[str, int]
    ) -> Iterable[dict[str, bytes]]:
        """Collect nothing before the last documents."""
        return ()

    def surplus(self, _records: Mapping[int, Record], _sizes: Mapping[str, int]) -> set[str]:
        """Leave nothing to be deleted."""
        return set()


def look(objects: Objects, head: Head) -> Existing | None:
    """Return what is at an output; None where there is nothing.

    Raises StoreError where there is something else: it is left alone.
    """
    data = objects.get(head.key)
    try:
        if data is None and all(map(_is_nothing, objects.names())):
            return None
        values = json.loads(data or objects.get(head.key) or b"")  # another run may have begun between the looks
        attributes, finished = head.read(values)
        if attributes["title"] == head.title and attributes["fingerprint"]:
            return Existing(head.kind, attributes, bool(finished), values)
    except (ValueError, KeyError, TypeError, NotADirectoryError):
        pass
    msg = f"{objects.root}: what is there is no {head.kind}; it is left alone. Choose another --output"
    raise StoreError(msg)


def _is_nothing(name: str) -> bool:
    """Return whether a name is of temporary files, or of what systems leave in any folder."""
    return name in _LEFT_BY_SYSTEMS or name.startswith(("._", LEASE))


@dataclass(frozen=True, slots=True)
class Found:
    """What an output has: records that are valid, and those of what is there of other tasks, some of which may stay.

    `sizes` are those of all objects.
    """

    records: dict[int, Record]
    former: Mapping[int, Record]
    sizes: Mapping[str, int] = field(default_factory=dict)


def find_records(output: Output) -> Found:
    """List an output and read its records; both again where it changed in between and something was refused."""
    while True:
        sizes = output.objects.sizes()
        try:
            return find_listed(output, sizes)
        except StoreError:
            if output.objects.sizes() == sizes:
                raise


def find_listed(output: Output, sizes: Mapping[str, int]) -> Found:
    """Read all records of an output that has been listed."""
    found = Found({}, former := {}, sizes)
    for task, record in _each_record(output, sizes):
        is_valid_ = record and output.accepts(record) and is_valid(record, output.stamp(task), sizes)
        if record and is_valid_:
            found.records[task] = record
        if (not is_valid_ or output.can_retry(found.records[task])) and (there := output.former(task, record, sizes)):
            former[task] = there
    return found


def read_records(output: Output) -> dict[int, Record]:
    """Read the records that are valid: of this plan and these recordings, with what they vouch for in place."""
    return find_records(output).records


def read_new_records(output: Output, tasks: Iterable[int], sizes: Mapping[str, int]) -> Iterator[tuple[int, Record]]:
    """Yield the valid records of tasks that had none when an output was listed, and have one now.

    What such a record vouches for was written just before it, and is not looked for: that takes a listing.
    """
    keys = {key: task for task in tasks if (key := output.record_key(task)) not in sizes}
    for key, record in read_each(output.objects, keys):
        if record and output.accepts(record) and not output.can_retry(record):
            in_place = {name: written.size for name, written in record.written.items()}
            if is_valid(record, output.stamp(keys[key]), in_place):
                yield keys[key], record


def begin(output: Output) -> None:
    """Write what is known before the work. May be done again over an unfinished output of the same plan."""
    documents = output.first_documents()
    output.objects.put(output.head.key, documents.pop(output.head.key))
    output.objects.put_all(documents)


def finish(output: Output, records: Mapping[int, Record], existing: Existing | None = None) -> Mapping[str, int]:
    """Write what comes last, and the head after everything else; return what was there before.

    Raises UnfinishedError if a task is not done, or what its record vouches for is not there any more.
    """
    sizes = output.objects.sizes()
    whole = {task for task, record in records.items() if is_in_place(record, sizes)}
    if missing := [task for task in range(output.n_tasks) if task not in whole]:
        what = f"{len(missing):,} of {numbered(output.n_tasks, output.noun)} {be(len(missing))} missing"
        first = f"the first is {output.noun} {missing[0]}"
        msg = f"{output.objects.root}: {what}, {first}: deleted after it was written; run the same command again"
        raise UnfinishedError(msg)
    for documents in output.collect(existing, records, sizes):
        output.objects.put_all(documents)
    documents = output.last_documents(records)
    head = documents.pop(output.head.key)
    for folder in output.replaced:
        for key in output.objects.sizes(folder).keys() - documents.keys():
            output.objects.delete(key)
    output.objects.put_all({key: documents.pop(key) for key in _below(output.ahead, documents)})
    output.objects.put_all(documents)
    _delete_surplus(output.objects, output.surplus(records, sizes), sizes)
    output.objects.delete_partial()
    output.objects.put(output.head.key, head)
    output.objects.delete_partial()
    return sizes


def _delete_surplus(objects: Objects, keys: AbstractSet[str], sizes: Mapping[str, int]) -> None:
    """Delete objects, and folders that nothing else is in: image folders take an empty one for an empty class."""
    for key in keys:
        objects.delete(key)
    left = {folder for key in sizes.keys() - keys for folder in _folders(key)}
    for folder in sorted({folder for key in keys for folder in _folders(key)} - left):
        objects.delete_below(folder)


def _folders(key: str) -> Iterator[str]:
    parts = key.split("/")[:-1]
    return ("/".join(parts[: n + 1]) for n in range(len(parts)))


def _below(folders: Sequence[str], keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key.partition("/")[0] in folders]


def erase(output: Output) -> None:
    """Delete an output; the head goes last, so that what is left of one is still known for what it was."""
    objects, head = output.objects, output.head
    if data := objects.get(head.key):
        objects.put(head.key, json.dumps(head.unfinish(json.loads(data))).encode())
    for part in output.parts:
        objects.delete_below(part)
    objects.delete_partial()
    objects.delete(head.key)


def changed(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which values differ, a line each."""
    return [f"{name}: {there.get(name)} there, {value} now" for name, value in now.items() if there.get(name) != value]


def name_changes(
    added: Iterable[str], replaced: Iterable[str], gone: Iterable[str], relabelled: Mapping[str, str]
) -> list[str]:
    """Count the clips that change, and list the first ten of each kind."""
    changes = [f"{path}: {change}" for path, change in relabelled.items()]
    named = (("new", added), ("replaced", replaced), ("gone", gone), ("relabelled", changes))
    return [line for what, names in named for line in name_some(what, names)]


def name_some(what: str, names: Iterable[str]) -> list[str]:
    """Count names, and list the first ten."""
    listed = list(names)
    if not listed:
        return []
    lines = [f"{len(listed):,} {what}:", *(f"  {name}" for name in listed[:_MOST_NAMED])]
    return [*lines, f"  and {len(listed) - _MOST_NAMED:,} more"] if len(listed) > _MOST_NAMED else lines


def head_document(values: Mapping[str, Any]) -> bytes:
    """Write a head as JSON."""
    return json.dumps(values, indent=2).encode() + b"\n"


@cache
def _version(package: str) -> str:
    """Return the version of an installed package: to read it takes milliseconds."""
    return version(package)


def provenance(sources: Sequence[str], what: str, packages: Sequence[str]) -> dict[str, Any]:
    """Return where results come from: sources without credentials, software, licence, attribution."""
    return {
        "sources": [_without_credentials(as_unicode(path_to_text(source))) for source in sources],
        "software": {"sound-features": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in packages},
        "license": _LICENSE.format(what=what),
        "attribution": _ATTRIBUTION,
    }


def _each_record(output: Output, sizes: Mapping[str, int]) -> Iterator[tuple[int, Record | None]]:
    """Yield the records of all tasks: None for those that have none, then the others in the order of the tasks."""
    there = []
    for task in range(output.n_tasks):
        if output.record_key(task) in sizes:
            there.append(task)
        else:
            yield task, None
    found = read_each(output.objects, map(output.record_key, there))
    yield from ((task, record) for task, (_, record) in zip(there, found, strict=True))


def _without_credentials(source: str) -> str:
    url = urlsplit(source)
    if not url.scheme:
        return source
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
