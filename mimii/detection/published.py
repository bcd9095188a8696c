"""AUCs of the baselines published with MIMII and with task 2 of the DCASE challenges.

All are of autoencoders that score by the mean squared error. None is measured here: each table names the readme that
it is from. ``mimii_0_dB`` and its like stand for MIMII at one SNR.

=================  ============================================  ==================================================
Year               Recordings                                    Source
=================  ============================================  ==================================================
``mimii_*_dB``     fans, as far as the readme lists them         MIMII-hitachi/mimii_baseline
``dcase2020``      development set, all machines                 y-kawagu/dcase2020_task2_baseline
``dcase2021``      development set, fan and valve                y-kawagu/dcase2021_task2_baseline_ae
``dcase2022``      development set, fan and valve                Kota-Dohi/dcase2022_task2_baseline_ae (098cb01)
``dcase2023``      evaluation set, all machines                  nttcslab/dcase2023_task2_evaluator
``dcase2024``      evaluation set, all machines                  nttcslab/dcase2024_task2_evaluator
``dcase2025``      evaluation set, all machines                  nttcslab/dcase2025_task2_evaluator
``dcase2026``      evaluation set, all machines                  nttcslab/dcase2026_task2_evaluator
=================  ============================================  ==================================================

From 2023 on, machine types of the evaluation set are not in the development set of that year, so that the name of a
machine tells the two apart.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

PUBLISHED_AUC = {
    ("fan", "id_00"): {6: 0.745, 0: 0.634, -6: 0.576},
    ("fan", "id_02"): {6: 0.993, 0: 0.856, -6: 0.640},
    ("fan", "id_04"): {6: 0.869, 0: 0.730, -6: 0.572},
    ("fan", "id_06"): {0: 0.982},
}
"""AUCs of the baseline published with MIMII, as far as its readme lists them: by machine and SNR in dB."""

_Key = tuple[str, str, str]

YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026")
"""Of the challenge."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a published baseline reached on one section; NaN where that year has no such value.

    Attributes
    ----------
    auc, p_auc : float
        AUC of all clips, and partial AUC of all clips (max FPR 0.1).
    auc_source, auc_target : float
        AUC by domain, by the rules of that year.
    p_auc_source, p_auc_target : float
        Partial AUC by domain: 2021 alone has it.

    """

    auc: float = math.nan
    p_auc: float = math.nan
    auc_source: float = math.nan
    auc_target: float = math.nan
    p_auc_source: float = math.nan
    p_auc_target: float = math.nan

    def of(self, domain: str) -> tuple[float, float]:
        """Return AUC and partial AUC of a domain; of all clips for an empty one.

        Where only all clips together have a partial AUC, it counts for each domain.
        """
        if domain not in ("source", "target"):
            return self.auc, self.p_auc
        p_auc: float = getattr(self, f"p_auc_{domain}")
        return getattr(self, f"auc_{domain}"), self.p_auc if math.isnan(p_auc) else p_auc


# AUC and partial AUC by machine type and id
_AUC_2020 = {
    "ToyCar": {1: (0.828474, 0.678514), 2: (0.866307, 0.762236), 3: (0.639396, 0.546659), 4: (0.869477, 0.701461)},
    "ToyConveyor": {1: (0.793497, 0.650428), 2: (0.64243, 0.564437), 3: (0.744579, 0.60488)},
    "fan": {0: (0.539607, 0.492435), 2: (0.721866, 0.554171), 4: (0.622098, 0.527072), 6: (0.72277, 0.529961)},
    "pump": {0: (0.670769, 0.57269), 2: (0.609369, 0.58037), 4: (0.8886, 0.676842), 6: (0.734902, 0.570175)},
    "slider": {0: (0.963315, 0.818451), 2: (0.78809, 0.628819), 4: (0.946011, 0.739503), 6: (0.702247, 0.490242)},
    "valve": {0: (0.687311, 0.51349), 2: (0.674083, 0.512281), 4: (0.744, 0.515351), 6: (0.552833, 0.482895)},
}
# AUC and partial AUC in the source domain, then both in the target domain, of sections 00, 01 and 02
_AUC_2021 = {
    "fan": (
        (0.6738, 0.573157895, 0.6955, 0.548421053),
        (0.6786, 0.505263158, 0.4953, 0.483157895),
        (0.6542, 0.532631579, 0.6441, 0.559473684),
    ),
    "valve": (
        (0.5026, 0.506842105, 0.4716, 0.485263158),
        (0.5404, 0.494210526, 0.5857, 0.548421053),
        (0.596, 0.516315789, 0.5489, 0.489473684),
    ),
}
# AUC in the source domain, in the target domain, and partial AUC, of all sections from 00 on
_AUC_BY_DOMAIN: Mapping[str, Mapping[str, tuple[tuple[float, float, float], ...]]] = {
    "dcase2022": {
        "fan": ((0.8488, 0.4542, 0.6136), (0.7150, 0.46, 0.5089), (0.8042, 0.6477, 0.6131)),
        "valve": ((0.5432, 0.5116, 0.5231), (0.489, 0.5448, 0.4968), (0.5298, 0.4432, 0.4973)),
    },
    "dcase2023": {
        "ToyDrone": ((0.7968, 0.561, 0.5368421052631579),),
        "ToyNscale": ((0.77, 0.4716, 0.5178947368421053),),
        "ToyTank": ((0.7212, 0.6468, 0.5826315789473684),),
        "Vacuum": ((0.8816, 0.4532, 0.5947368421052631),),
        "bandsaw": ((0.6667348190554078, 0.48287671232876717, 0.5091087658743451),),
        "grinder": ((0.706837186424004, 0.5516569200779727, 0.5846166760294185),),
        "shaker": ((0.69428983714698, 0.5604118104118104, 0.5491654428600755),),
    },
    "dcase2024": {
        "3DPrinter": ((0.7912, 0.4796, 0.4942105263157895),),
        "AirCompressor": ((0.65, 0.4824, 0.5547368421052632),),
        "BrushlessMotor": ((0.707, 0.6352, 0.5557894736842105),),
        "HairDryer": ((0.6224, 0.4598, 0.5163157894736842),),
        "HoveringDrone": ((0.8602, 0.4388, 0.5021052631578947),),
        "RoboticArm": ((0.6596, 0.4152, 0.511578947368421),),
        "Scanner": ((0.6916, 0.5374, 0.5010526315789474),),
        "ToothBrush": ((0.7504, 0.6948, 0.5273684210526316),),
        "ToyCircuit": ((0.7658, 0.5266, 0.5),),
    },
    "dcase2025": {
        "AutoTrash": ((0.8102, 0.3436, 0.5421052631578948),),
        "BandSealer": ((0.7198, 0.3956, 0.5205263157894737),),
        "CoffeeGrinder": ((0.7304, 0.4436, 0.5342105263157895),),
        "HomeCamera": ((0.814, 0.4976, 0.5284210526315789),),
        "Polisher": ((0.6686, 0.443, 0.5231578947368422),),
        "ScrewFeeder": ((0.6486, 0.6592, 0.6210526315789474),),
        "ToyPet": ((0.677, 0.367, 0.55),),
        "ToyRCCar": ((0.5284, 0.6272, 0.5552631578947368),),
    },
    "dcase2026": {
        "BlowerDustCollector": ((0.6948, 0.8838, 0.6178947368421053),),
        "Sander": ((0.6714, 0.4402, 0.5089473684210526),),
        "SewingMachine": ((0.6484, 0.6142, 0.5810526315789474),),
        "ToothBrush": ((0.5902, 0.6434, 0.5978947368421053),),
        "ToyDrone": ((0.7126, 0.468, 0.5510526315789473),),
    },
}


def published(year: str, machine_type: str, section: str) -> Published | None:
    """Return what the baseline of a year reached on a section; None where no table has it.

    Examples
    --------
    >>> published("dcase2020", "fan", "id_02").auc
    0.721866

    """
    return PUBLISHED.get((year, machine_type, section))


def _tables() -> Iterator[tuple[_Key, Published]]:
    for (machine_type, machine_id), by_snr in PUBLISHED_AUC.items():
        for snr_db, auc in by_snr.items():
            yield (f"mimii_{snr_db}_dB", machine_type, machine_id), Published(auc=auc)
    for machine_type, by_id in _AUC_2020.items():
        for number, (auc, p_auc) in by_id.items():
            yield ("dcase2020", machine_type, f"id_{number:02}"), Published(auc=auc, p_auc=p_auc)
    for machine_type, sections in _AUC_2021.items():
        for number, (auc_source, p_source, auc_target, p_target) in enumerate(sections):
            by_domain = Published(
                auc_source=auc_source, auc_target=auc_target, p_auc_source=p_source, p_auc_target=p_target
            )
            yield ("dcase2021", machine_type, f"section_{number:02}"), by_domain
    yield from _tables_by_domain()


def _tables_by_domain() -> Iterator[tuple[_Key, Published]]:
    for year, machines in _AUC_BY_DOMAIN.items():
        for machine_type, sections in machines.items():
            for number, (source, target, p_auc) in enumerate(sections):
                scores = Published(auc_source=source, auc_target=target, p_auc=p_auc)
                yield (year, machine_type, f"section_{number:02}"), scores


PUBLISHED: Mapping[_Key, Published] = MappingProxyType(dict(_tables()))
"""By year, machine type and section or id; AUCs as fractions of 1."""


def published_auc(machine_type: str, machine_id: str, snr_db: float) -> float:
    """Return the AUC of the baseline published with MIMII; NaN where its readme does not list one."""
    known = PUBLISHED_AUC.get((machine_type, machine_id), {})
    return math.nan if math.isnan(snr_db) else known.get(round(snr_db), math.nan)
