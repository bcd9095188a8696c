"""What `jobs.verify` prints: a table or a JSON document of what was found, and what to do."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs.words import format_bytes, numbered
from mimii.storage import is_remote, printable
from mimii.verification import ALL_COLUMNS, CHECKS, Checked, Finding, Verdict

_MOST_FINDINGS = 10
_COPY = "where recordings of the table are gone, copy the store first: what is deleted here is made again from them"
_AGAIN = (
    "run the python -m jobs.featurize command that made the store again, with the same options; where the table has "
    "grown, with --update"
)
_OVERWRITE = (
    "if it refuses because clips or options have changed, it lists the changes; with --overwrite it replaces the "
    "store, without recordings that are gone"
)
_COLUMN = (
    "if --update refuses the table for a column that it needs, only --overwrite makes the table again, from the "
    "recordings that are named"
)
_NEEDS_NO_RECORDING = ("features/mel/", "row_clip/", "mel_", "feature_mean/", "feature_std/", "first_row/", ALL_COLUMNS)
_FETCH = (
    "check which archives are complete (python -m jobs.fetch NAME --verify-only), and featurize them to another "
    "--output"
)
_LIBROSA = (
    "if values still differ after that, recordings have changed, or other versions of the software made the store"
)


def describe_verdict(verdict: Verdict) -> str:
    """Write a verdict as text."""
    store, n_findings = printable(verdict.store), len(verdict.findings)
    lines = [f"store  {store}{_describe_size(verdict.size)}", "", *_table(verdict)]
    for checked in verdict.checks.values():
        lines += _describe_findings(checked)
    lines += ["", *(f"note: {printable(note)}" for note in verdict.notes)] if verdict.notes else []
    lines += ["", "what to do", *(f"  {step}" for step in _steps(verdict))] if n_findings else []
    end = f"is not correct: {numbered(n_findings, 'finding')}" if n_findings else "is complete and correct"
    return "\n".join([*lines, "", f"{store} {end}"])


def verdict_as_json(verdict: Verdict) -> str:
    """Write a verdict as one JSON document."""
    largest = verdict.largest
    document = {
        "store": verdict.store,
        "right": verdict.is_right,
        **verdict.size,
        "checks": {name: _check_as_json(verdict, name) for name in CHECKS},
        "largest_difference": {"db": largest.decibel, "where": largest.where}
        if largest and _is_known(verdict)
        else None,
        "notes": list(verdict.notes),
        "delete": _deletions(verdict.findings),
        "then": list(_afterwards(verdict.findings)),
    }
    return json.dumps(document, indent=2)


def _is_known(verdict: Verdict) -> bool:
    return verdict.largest is not None and not math.isnan(verdict.largest.decibel)


def _check_as_json(verdict: Verdict, name: str) -> dict[str, Any]:
    if name not in verdict.checks:
        return {"checked": False, "why_not": verdict.skipped[name]}
    checked = verdict.checks[name]
    findings = [{key: value for key, value in asdict(one).items() if key != "check"} for one in checked.findings]
    return {"checked": True, "looked_at": checked.n, "counted": f"{CHECKS[name]}s", "findings": findings}


def _describe_size(size: Mapping[str, int]) -> str:
    if not size:
        return ""
    counts = (numbered(size[f"{noun}s"], noun) for noun in ("clip", "row", "shard"))
    return f": {', '.join(counts)}, {format_bytes(size['bytes'])}"


def _table(verdict: Verdict) -> list[str]:
    rows = [("check", "looked at", "")]
    for name, noun in CHECKS.items():
        checked = verdict.checks.get(name)
        counted = numbered(checked.n, noun) if checked else "-"
        rows.append((name, counted, _outcome(verdict, checked) if checked else f"not checked: {verdict.skipped[name]}"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name:<{widths[0]}}  {counted:>{widths[1]}}  {outcome}".rstrip() for name, counted, outcome in rows]


def _outcome(verdict: Verdict, checked: Checked) -> str:
    outcome = numbered(len(checked.findings), "finding").upper() if checked.findings else "ok"
    if checked.check == "librosa" and verdict.largest and _is_known(verdict):
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


def _steps(verdict: Verdict) -> Iterator[str]:
    keys, root = _deletions(verdict.findings), verdict.store.rstrip("/")
    command = "aws s3 rm" if is_remote(root) else "rm"
    if not all(map(_needs_no_recording, keys)):
        yield _COPY
    for key in keys[:_MOST_FINDINGS]:
        yield f"{command} {shlex.quote(printable(f'{root}/{key}'))}"
    if len(keys) > _MOST_FINDINGS:
        yield f"and {len(keys) - _MOST_FINDINGS:,} more; all are in --json, under 'delete'"
    yield from _afterwards(verdict.findings)


def _needs_no_recording(key: str) -> bool:
    """Say whether an object is made again from others: from rows, records or the metadata of the group."""
    return key.startswith(_NEEDS_NO_RECORDING) or key.endswith("zarr.json")


def _deletions(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.delete for finding in findings if finding.delete))


def _afterwards(findings: Sequence[Finding]) -> Iterator[str]:
    checks = {finding.check for finding in findings}
    if checks - {"published"}:
        yield _AGAIN
    if any(finding.delete == ALL_COLUMNS and finding.check in {"columns", "objects"} for finding in findings):
        yield _COLUMN
    if checks & {"metadata", "recordings"}:
        yield _OVERWRITE
    if "librosa" in checks:
        yield _LIBROSA
    if "published" in checks:
        yield _FETCH
