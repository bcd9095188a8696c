"""How many clips of each machine MIMII has, as it is published, and whether a store has them all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from mimii.recordings import ABNORMAL, NORMAL, SNRS, Archive
from mimii.verification.metadata import Checked, Finding

COUNTS: Mapping[tuple[str, str], tuple[int, int]] = MappingProxyType(
    {
        ("fan", "id_00"): (1011, 407),
        ("fan", "id_02"): (1016, 359),
        ("fan", "id_04"): (1033, 348),
        ("fan", "id_06"): (1015, 361),
        ("pump", "id_00"): (1006, 143),
        ("pump", "id_02"): (1005, 111),
        ("pump", "id_04"): (702, 100),
        ("pump", "id_06"): (1036, 102),
        ("slider", "id_00"): (1068, 356),
        ("slider", "id_02"): (1068, 267),
        ("slider", "id_04"): (534, 178),
        ("slider", "id_06"): (534, 89),
        ("valve", "id_00"): (991, 119),
        ("valve", "id_02"): (708, 120),
        ("valve", "id_04"): (1000, 120),
        ("valve", "id_06"): (992, 120),
    }
)
"""Normal and abnormal clips of each machine, by type and id: the same at each SNR, 18,019 in all."""

Machine = tuple[str, str, float]
"""Type, id and SNR in dB."""

_MOST_NAMED = 3


def count_clips(columns: Mapping[str, NDArray[Any]]) -> dict[Machine, tuple[int, int]]:
    """Count the recordings, normal and abnormal, of the machines that MIMII has."""
    names = ("machine_type", "machine_id", "snr_db", "label")
    firsts = list({path: clip for clip, path in enumerate(columns["path"].tolist())}.values())  # one a recording
    counts = Counter(zip(*(columns[name][firsts].tolist() for name in names), strict=True))
    machines = sorted({(kind, name, snr) for kind, name, snr, _ in counts if (kind, name) in COUNTS and snr in SNRS})
    return {machine: (counts[*machine, NORMAL], counts[*machine, ABNORMAL]) for machine in machines}


def check_published(counts: Mapping[Machine, tuple[int, int]], archives: Iterable[Archive]) -> Checked:
    """Compare the clips of a store with those of whole archives."""
    wanted = {
        (kind, name, float(archive.snr_db)): expected
        for archive in archives
        for (kind, name), expected in COUNTS.items()
        if kind == archive.machine_type
    }
    found = []
    for machine, expected in wanted.items():
        there = counts.get(machine, (0, 0))
        if there != expected:
            problem = "{} normal and {} abnormal recordings here, {} and {} are published".format(*there, *expected)
            found.append(Finding("published", _name(machine), problem))
    return Checked("published", len(wanted), tuple(found))


def note_published(counts: Mapping[Machine, tuple[int, int]]) -> str:
    """Write how much of MIMII is in a store; empty where none is."""
    if not counts:
        return ""
    others = [_name(machine) for machine, there in counts.items() if there != COUNTS[machine[:2]]]
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    with_others = f"; with another number: {', '.join(others[:_MOST_NAMED])}{more}" if others else ""
    return (
        f"of {len(COUNTS) * len(SNRS)} machines of MIMII (types, ids and SNRs), {len(counts)} are here, "
        f"{len(counts) - len(others)} of them with all recordings that are published{with_others}"
    )


def _name(machine: Machine) -> str:
    kind, name, snr_db = machine
    return f"{kind} {name} {snr_db:g} dB"
