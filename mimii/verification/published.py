"""How many clips of each machine MIMII has, as it is published, and whether a store has them all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def count_clips(columns: Mapping[str, NDArray[Any]]) -> dict[Machine, tuple[int, int]]:
    """Count the clips of the machines that MIMII has."""
    names = ("machine_type", "machine_id", "snr_db", "label")
    counts = Counter(zip(*(columns[name].tolist() for name in names), strict=True))
    machines = sorted(
        {(kind, number, snr) for kind, number, snr, _ in counts if (kind, number) in COUNTS and snr in SNRS}
    )
    return {machine: (counts[*machine, NORMAL], counts[*machine, ABNORMAL]) for machine in machines}


def check_published(counts: Mapping[Machine, tuple[int, int]], archives: Iterable[Archive]) -> Checked:
    """Hold the clips of a store against those of archives that are to be there as a whole."""
    wanted = [
        (kind, number, float(archive.snr_db))
        for archive in archives
        for kind, number in COUNTS
        if kind == archive.machine_type
    ]
    found = [
        Finding("published", describe_machine(machine), _difference(counts.get(machine, (0, 0)), machine))
        for machine in wanted
        if counts.get(machine) != COUNTS[machine[:2]]
    ]
    return Checked("published", len(wanted), tuple(found))


def note_published(counts: Mapping[Machine, tuple[int, int]]) -> str:
    """Say how much of MIMII is in a store."""
    if not counts:
        return ""
    whole = [machine for machine, there in counts.items() if there == COUNTS[machine[:2]]]
    others = _name_some([describe_machine(machine) for machine in counts if machine not in whole])
    n_machines = len(COUNTS) * len(SNRS)
    return (
        f"of {n_machines} machines of MIMII (types, ids and SNRs), {len(counts)} are here, {len(whole)} of them with "
        f"all the clips that are published{f'; with others: {others}' if others else ''}"
    )


def describe_machine(machine: Machine) -> str:
    """Name a machine, for people: ``fan id_00 6 dB``."""
    kind, number, snr_db = machine
    return f"{kind} {number} {snr_db:g} dB"


def _difference(there: tuple[int, int], machine: Machine) -> str:
    normal, abnormal = COUNTS[machine[:2]]
    return f"{there[0]} normal and {there[1]} abnormal clips here, {normal} and {abnormal} as published"


def _name_some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
