"""What `jobs.verify` says: a table for people, a document for machines, and what to do."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.report import format_bytes, numbered
from mimii.storage import is_remote, printable
from mimii.verification import CHECKS, Checked, Difference, Finding

_MOST_FINDINGS = 10
_AGAIN = "run the python -m jobs.featurize command that made the store again, with the same options"
_OVERWRITE = (
    "if it refuses, since clips or options are others now, it says which: --overwrite then makes the store anew"
)
_FETCH = (
    "see which archives are whole (python -m jobs.fetch NAME --verify-only), and featurize them to another --output"
)
_LIBROSA = (
    "if values still differ after that, recordings have changed, or other versions of the software made the store"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of all checks.

    Attributes
    ----------
    store : str
        Which store.
    checks : mapping of str to Checked
        Those that were made, by name.
    skipped : mapping of str to str
        Why the others were not.
    size : mapping of str to int
        Clips, rows, shards and bytes; empty where that is not known.
    notes : sequence of str
        What else is worth knowing.
    largest : Difference or None
        The clip that is farthest from librosa.

    """

    store: str
    checks: Mapping[str, Checked]
    skipped: Mapping[str, str]
    size: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    largest: Difference | None = None

    @property
    def findings(self) -> list[Finding]:
        """All of them, in the order of the checks."""
        return [finding for name in CHECKS if name in self.checks for finding in self.checks[name].findings]


def describe_verdict(verdict: Verdict) -> str:
    """Write a verdict for people."""
    findings = verdict.findings
    lines = [f"store  {printable(verdict.store)}{_describe_size(verdict.size)}", "", *_table(verdict)]
    for name in CHECKS:
        lines += _describe_findings(verdict.checks[name]) if name in verdict.checks else []
    lines += ["", *(f"note: {printable(note)}" for note in verdict.notes)] if verdict.notes else []
    if findings:
        lines += ["", "what to do", *(f"  {step}" for step in _steps(verdict))]
    end = f"is not right: {numbered(len(findings), 'finding')}" if findings else "is whole and right"
    return "\n".join([*lines, "", f"{printable(verdict.store)} {end}"])


def verdict_as_json(verdict: Verdict) -> str:
    """Write a verdict for machines."""
    findings = verdict.findings
    document: dict[str, Any] = {"store": verdict.store, "right": not findings, **verdict.size}
    document["checks"] = {name: _check_as_json(verdict, name) for name in CHECKS}
    document["largest_difference"] = None
    if verdict.largest and not math.isnan(verdict.largest.decibel):
        document["largest_difference"] = {"db": verdict.largest.decibel, "where": verdict.largest.where}
    document["notes"] = list(verdict.notes)
    document["delete"] = _deletions(findings)
    document["then"] = _afterwards(findings)
    return json.dumps(document, indent=2)


def _check_as_json(verdict: Verdict, name: str) -> dict[str, Any]:
    if name not in verdict.checks:
        return {"checked": False, "why_not": verdict.skipped.get(name, "")}
    checked = verdict.checks[name]
    findings = [{key: value for key, value in asdict(one).items() if key != "check"} for one in checked.findings]
    return {"checked": True, "looked_at": checked.n, "things": f"{CHECKS[name]}s", "findings": findings}


def _describe_size(size: Mapping[str, int]) -> str:
    if not size:
        return ""
    counts = (numbered(size[f"{noun}s"], noun) for noun in ("clip", "row", "shard"))
    return f": {', '.join(counts)}, {format_bytes(size['bytes'])}"


def _table(verdict: Verdict) -> list[str]:
    rows = [("check", "looked at", "")]
    for name, thing in CHECKS.items():
        if name in verdict.checks:
            checked = verdict.checks[name]
            rows.append((name, numbered(checked.n, thing), _outcome(verdict, checked)))
        else:
            rows.append((name, "-", f"not checked: {verdict.skipped.get(name, '')}"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name.ljust(widths[0])}  {looked.rjust(widths[1])}  {outcome}".rstrip() for name, looked, outcome in rows]


def _outcome(verdict: Verdict, checked: Checked) -> str:
    outcome = numbered(len(checked.findings), "finding").upper() if checked.findings else "ok"
    if checked.check == "librosa" and verdict.largest and not math.isnan(verdict.largest.decibel):
        where = printable(verdict.largest.where)
        outcome += f", the largest difference is {verdict.largest.decibel:.2g} dB: {where}"
    return outcome


def _describe_findings(checked: Checked) -> list[str]:
    if not checked.findings:
        return []
    lines = ["", f"{checked.check}: {numbered(len(checked.findings), 'finding')}"]
    lines += [printable(f"  {finding.where}: {finding.problem}") for finding in checked.findings[:_MOST_FINDINGS]]
    n_more = len(checked.findings) - _MOST_FINDINGS
    return [*lines, f"  and {n_more:,} more; all are in --json"] if n_more > 0 else lines


def _steps(verdict: Verdict) -> list[str]:
    keys = _deletions(verdict.findings)
    root = verdict.store.rstrip("/")
    command = "aws s3 rm" if is_remote(root) else "rm"
    steps = [f"{command} {shlex.quote(printable(f'{root}/{key}'))}" for key in keys[:_MOST_FINDINGS]]
    if len(keys) > _MOST_FINDINGS:
        steps.append(f"and {len(keys) - _MOST_FINDINGS:,} more; all are in --json, under 'delete'")
    return steps + _afterwards(verdict.findings)


def _deletions(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.delete for finding in findings if finding.delete))


def _afterwards(findings: Sequence[Finding]) -> list[str]:
    kinds = {finding.check for finding in findings}
    steps = [_AGAIN] if kinds - {"published"} else []
    steps += [_OVERWRITE] if kinds & {"metadata", "recordings"} else []
    steps += [_LIBROSA] if "librosa" in kinds else []
    return steps + ([_FETCH] if "published" in kinds else [])
