"""Published baselines: the tables agree with the means that the same readmes print."""

import math
from statistics import fmean, harmonic_mean

import pytest

from mimii.detection.published import PUBLISHED, PUBLISHED_AUC, Published, published


def tables(year, machine_type=None):
    """Return what is published of a year, or of one machine type of it."""
    return [
        known for (when, machine, _), known in PUBLISHED.items() if when == year and machine_type in (None, machine)
    ]


@pytest.mark.parametrize(
    ("machine_type", "n", "auc", "p_auc"),
    [
        ("ToyCar", 4, 0.800914, 0.672218),
        ("ToyConveyor", 3, 0.726835, 0.606582),
        ("fan", 4, 0.651585, 0.52591),
        ("pump", 4, 0.72591, 0.600019),
        ("slider", 4, 0.849916, 0.669254),
        ("valve", 4, 0.664557, 0.506004),
    ],
)
def test_2020_has_the_averages_of_its_readme(machine_type, n, auc, p_auc):
    known = tables("dcase2020", machine_type)
    assert len(known) == n
    assert fmean(one.auc for one in known) == pytest.approx(auc, abs=1e-6)
    assert fmean(one.p_auc for one in known) == pytest.approx(p_auc, abs=1e-6)


@pytest.mark.parametrize(
    ("machine_type", "arithmetic", "harmonic"),
    [
        ("fan", (0.64025, 0.533684211), (0.631866714, 0.531826049)),
        ("valve", (0.540866667, 0.506754386), (0.537267925, 0.505885378)),
    ],
)
def test_2021_has_the_means_of_its_readme(machine_type, arithmetic, harmonic):
    known = tables("dcase2021", machine_type)
    aucs = [auc for one in known for auc in (one.auc_source, one.auc_target)]
    p_aucs = [auc for one in known for auc in (one.p_auc_source, one.p_auc_target)]
    assert len(aucs) == 6
    assert (fmean(aucs), fmean(p_aucs)) == pytest.approx(arithmetic, abs=1e-8)
    assert (harmonic_mean(aucs), harmonic_mean(p_aucs)) == pytest.approx(harmonic, abs=1e-8)


@pytest.mark.parametrize(
    ("machine_type", "means"),
    [
        ("fan", (0.7893, 0.5206, 0.5785, 0.7852, 0.5068, 0.5741)),
        ("valve", (0.5206, 0.4998, 0.5057, 0.5196, 0.4961, 0.5054)),
    ],
)
def test_2022_has_the_means_of_its_readme(machine_type, means):
    known = [(one.auc_source, one.auc_target, one.p_auc) for one in tables("dcase2022", machine_type)]
    assert len(known) == 3
    columns = list(zip(*known, strict=True))
    assert [*map(fmean, columns), *map(harmonic_mean, columns)] == pytest.approx(
        means, abs=1.5e-4
    )  # the readme cuts after four digits


@pytest.mark.parametrize(
    ("year", "n", "total", "arithmetic"),
    [
        ("dcase2023", 7, 0.5925469043549957, 0.6114287349222227),
        ("dcase2024", 9, 0.5650830191796572, 0.5863391812865497),
        ("dcase2025", 8, 0.5442827820713174, 0.5728557017543859),
        ("dcase2026", 5, 0.5980289616592438, 0.614922807017544),
    ],
)
def test_from_2023_on_the_official_score_follows_from_the_table(year, n, total, arithmetic):
    values = [value for one in tables(year) for value in (one.auc_source, one.auc_target, one.p_auc)]
    assert len(values) == 3 * n
    assert harmonic_mean(values) == pytest.approx(total, abs=1e-12)
    assert fmean(values) == pytest.approx(arithmetic, abs=1e-12)


@pytest.mark.parametrize(
    ("year", "sources", "targets", "p_aucs"),  # the harmonic means of each column, so that none is in the other
    [
        ("dcase2023", 0.7423494890244248, 0.5253826834789426, 0.5517419647782388),
        ("dcase2024", 0.7150555228086642, 0.5057977147441246, 0.5172271108149132),
        ("dcase2025", 0.6879822239700398, 0.44954916968961445, 0.5452967030441773),
        ("dcase2026", 0.6606242657626471, 0.5732431794118468, 0.568731371472361),
    ],
)
def test_from_2023_on_each_column_has_the_mean_of_its_readme(year, sources, targets, p_aucs):
    columns = zip(*((one.auc_source, one.auc_target, one.p_auc) for one in tables(year)), strict=True)
    assert [harmonic_mean(column) for column in columns] == pytest.approx([sources, targets, p_aucs], abs=1e-12)


@pytest.mark.parametrize(
    ("key", "source", "target"),  # single lines of the readmes, so that no two machines are exchanged
    [
        (("dcase2021", "fan", "section_01"), (0.6786, 0.505263158), (0.4953, 0.483157895)),
        (("dcase2022", "fan", "section_02"), (0.8042, 0.6131), (0.6477, 0.6131)),
        (("dcase2023", "shaker", "section_00"), (0.69428983714698, 0.5491654428600755), (0.5604118104118104,)),
        (("dcase2024", "3DPrinter", "section_00"), (0.7912, 0.4942105263157895), (0.4796, 0.4942105263157895)),
        (("dcase2025", "ToyRCCar", "section_00"), (0.5284, 0.5552631578947368), (0.6272, 0.5552631578947368)),
        (("dcase2026", "ToyDrone", "section_00"), (0.7126, 0.5510526315789473), (0.468, 0.5510526315789473)),
    ],
)
def test_a_domain_has_its_auc_and_partial_auc(key, source, target):
    known = published(*key)
    assert known.of("source") == source
    assert known.of("target")[: len(target)] == target
    assert math.isnan(known.of("")[0])


def test_all_clips_have_the_one_auc_of_2020():
    known = published("dcase2020", "fan", "id_06")
    assert known.of("") == (0.72277, 0.529961)
    assert all(map(math.isnan, known.of("source")[:1]))


def test_mimii_has_what_its_evaluation_has():
    found = {key: known.auc for key, known in PUBLISHED.items() if key[0].startswith("mimii")}
    assert found == {
        (f"mimii_{snr}_dB", *machine): auc for machine, by_snr in PUBLISHED_AUC.items() for snr, auc in by_snr.items()
    }


@pytest.mark.parametrize(
    "key",
    [
        ("dcase2020", "fan", "id_01"),
        ("dcase2021", "pump", "section_00"),
        ("dcase2024", "fan", "section_00"),
        ("dcase2019", "fan", "id_00"),
        ("", "", ""),
    ],
)
def test_what_is_in_no_table_is_none(key):
    assert published(*key) is None


def test_all_are_fractions():
    values = [getattr(one, name) for one in PUBLISHED.values() for name in Published.__dataclass_fields__]
    assert all(0.3 < value < 1 for value in values if not math.isnan(value))
