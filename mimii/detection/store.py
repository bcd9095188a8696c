"""What detection leaves at its output: a model and an outcome for each machine, scores, results, a page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mimii.detection.documents import (
    FINDINGS_HEAD,
    MODELS,
    OFFICIAL,
    OUTCOMES,
    REPORT,
    RESULTS,
    SCORES,
    outcome_key,
)
from mimii.detection.machines import Machine
from mimii.detection.page import write_page
from mimii.detection.results import Results, results_document, scores_document
from mimii.detection.study import (
    MachineTask,
    Study,
    learn_machine,
    read_outcome,
)
from mimii.detection.training import training_as_dict
from mimii.engine import (
    Existing,
    Head,
    InPlace,
    Pipeline,
    Record,
    Stamp,
    changed,
    head_document,
    provenance,
    tasks_to_results,
)
from mimii.features import complete_spec
from mimii.storage import DEFAULT_ACCESS, Access, Objects
from mimii.table import Columns

_FORMAT = 3
_SOFTWARE = ("numpy", "scikit-learn", "zarr")


@dataclass(frozen=True, slots=True)
class FindingsOutput(InPlace):
    """Models and scores of the machines of a table at their place; see `mimii.engine.Output` for the methods.

    Attributes
    ----------
    study : Study
        The table, how it is learned, and where the results go.
    machines : tuple of Machine
        What there is to learn.
    columns : Columns
        Of the table.
    digests : tuple of str
        Of all that decides what comes of each machine.
    source : str
        Where the table is, for the output's attributes.
    access : Access
        How to access recordings on S3, for the sound of some clips.

    """

    study: Study
    machines: tuple[Machine, ...]
    columns: Columns
    digests: tuple[str, ...]
    source: str
    access: Access = DEFAULT_ACCESS
    head: ClassVar[Head] = FINDINGS_HEAD
    parts: ClassVar[tuple[str, ...]] = (OUTCOMES, MODELS, SCORES, RESULTS, REPORT, OFFICIAL)
    replaced: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = "machine"
    is_remote: ClassVar[bool] = False
    pipeline: ClassVar[Pipeline] = Pipeline(
        "learn-machine", partial(tasks_to_results, function=learn_machine), reads_recordings=False
    )

    @property
    def objects(self) -> Objects:
        """Where the results go."""
        return self.study.output

    @property
    def purpose(self) -> str:
        """The fingerprint of the study."""
        return self.study.fingerprint

    @property
    def n_tasks(self) -> int:
        """How many machines there are."""
        return len(self.machines)

    def record_key(self, task: int) -> str:
        """Return the key of the outcome of a machine."""
        return outcome_key(self.machines[task].name)

    def stamp(self, task: int) -> Stamp:
        """Return what the outcome of a machine must bear."""
        return Stamp(self.digests[task], 0)

    def accepts(self, record: Record) -> bool:
        """Say whether a record holds an outcome."""
        return read_outcome(record) is not None

    def task(self, task: int, _former: Record | None = None) -> MachineTask:
        """Return all that a worker needs to know of a machine."""
        return MachineTask(task, self.machines[task], self.study, self.stamp(task))

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips of a machine."""
        machine = self.machines[task]
        return [span.clip for span in (*machine.train, *machine.test)]

    def n_clips(self, task: int) -> int:
        """Count the clips of a machine."""
        return self.machines[task].n_clips

    def differences(self, existing: Existing) -> list[str]:
        """Say how the results at the output differ: a table that has grown is the same table."""
        there, now = existing.attributes, self._about()
        found = changed(there.get("training", {}), now["training"])
        found += changed(complete_spec(there.get("spec", {})), now["spec"])
        if there.get("table") != now["table"]:
            found.append(f"table: {', '.join(there.get('sources', ()))} there, {self.source} now")
        return found or changed(there, {"format": _FORMAT})

    def first_documents(self) -> dict[str, bytes]:
        """Return what says which results there will be."""
        return {self.head.key: head_document(self._about() | {"finished": False})}

    def surplus(self, records: Mapping[int, Record], sizes: Mapping[str, int]) -> set[str]:
        """Return models and outcomes of machines that the table has no more, and what was made of earlier results."""
        ours = {key for task, record in records.items() for key in (self.record_key(task), *record.written)}
        return {key for key in sizes if key.startswith((f"{MODELS}/", f"{OUTCOMES}/", f"{OFFICIAL}/"))} - ours

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return scores, results and the page."""
        results = self.results(records)
        return {
            SCORES: scores_document(results, self.columns),
            RESULTS: results_document(results),
            REPORT: self._page(results),
            self.head.key: head_document(self._about() | {"finished": True}),
        }

    def is_whole(self, existing: Existing, _records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether all documents are there, and are of these machines."""
        is_this = existing.attributes["fingerprint"] == self.study.fingerprint
        return is_this and sizes.keys() >= {SCORES, RESULTS, REPORT}

    def results(self, records: Mapping[int, Record]) -> Results:
        """Return each machine with its outcome."""
        found = ((machine, read_outcome(records[task])) for task, machine in enumerate(self.machines))
        return [(machine, outcome) for machine, outcome in found if outcome]

    def _page(self, results: Results) -> bytes:
        return write_page(self.columns, self.study, results, self.access)

    def _about(self) -> dict[str, Any]:
        about = {"title": self.head.title, "format": _FORMAT, "fingerprint": self.study.fingerprint}
        about["table"] = hashlib.sha256(self.study.table.root.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        about |= {"training": training_as_dict(self.study.training), "spec": self.columns.spec.as_dict()}
        return about | provenance([self.source], "results", _SOFTWARE)


def digest_machine(machine: Machine, study: Study, versions: NDArray[np.int64], content: str) -> str:
    """Digest all that decides what comes of a machine: its clips and how they are learned.

    `versions` are those of the recordings of the table; `content` stands for them in a table that does not say.
    """
    spans = (*machine.train, *machine.test)
    clips = [(span.clip, span.row, span.n_rows, int(versions[span.clip])) for span in spans]
    how = (_FORMAT, training_as_dict(study.training), study.spec.as_dict(), study.meaning, content)
    values = (how, asdict(replace(machine, snr_db=0.0)), str(machine.snr_db), clips)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
