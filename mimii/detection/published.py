"""AUCs that others have published."""

import math

PUBLISHED_AUC = {
    ("fan", "id_00"): {6: 0.745, 0: 0.634, -6: 0.576},
    ("fan", "id_02"): {6: 0.993, 0: 0.856, -6: 0.640},
    ("fan", "id_04"): {6: 0.869, 0: 0.730, -6: 0.572},
    ("fan", "id_06"): {0: 0.982},
}
"""AUCs of the baseline published with MIMII, as far as its readme lists them: by machine and SNR in dB."""


def published_auc(machine_type: str, machine_id: str, snr_db: float) -> float:
    """Return the AUC of the baseline published with MIMII; NaN where its readme does not list one."""
    known = PUBLISHED_AUC.get((machine_type, machine_id), {})
    return math.nan if math.isnan(snr_db) else known.get(round(snr_db), math.nan)
