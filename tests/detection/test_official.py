"""The challenge's numbers: each year's rule on cases worked out by hand, scikit-learn, and the files byte for byte."""

import csv
import dataclasses
import math
import sys
from statistics import fmean, harmonic_mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mimii.detection.official import YEARS, Section, official_document, official_scores, result_files

DOMAINS_FROM_2022 = YEARS[2:]


def section(clips, machine_type="fan", name="section_00", threshold=2.5):
    """Return a section of clips: each a label, a score and a domain."""
    labels, scores, domains = zip(*clips, strict=True) if clips else ((), (), ())
    paths = tuple(f"raw/{machine_type}/test/{number:04d}.wav" for number in range(len(clips)))
    return Section(machine_type, name, labels, scores, domains, paths, threshold)


# Source: normal 1 and 2, abnormal 3. Target: normal 4 and 6, abnormal 5.
TWO_DOMAINS = [
    *((0, 1.0, "source"), (0, 2.0, "source"), (1, 3.0, "source")),
    *((0, 4.0, "target"), (0, 6.0, "target"), (1, 5.0, "target")),
]
# One normal clip of source above all abnormal ones but one
POOR = [(0, 1.0, "source"), (0, 7.0, "source"), (1, 8.0, "source"), (0, 2.0, "target"), (1, 3.0, "target")]


def by_domain(found, section="section_00", machine_type="fan"):
    return {
        line.domain: line.rates
        for line in found.sections
        if (line.section, line.machine_type) == (section, machine_type)
    }


def p_auc(labels, scores):
    return metrics.roc_auc_score(labels, scores, max_fpr=0.1)


class Test2020:
    """An id has one AUC; machine types and then the challenge have arithmetic means."""

    def test_the_auc_is_of_all_clips(self):
        # Pairs of abnormal and normal: 3 is above 1 and 2, below 4 and 6; 5 is above 1, 2, 4: 5 of 8 pairs.
        found = official_scores([section(TWO_DOMAINS, name="id_00")], "dcase2020")
        (line,) = found.sections
        assert line.rates.auc == pytest.approx(5 / 8)
        # The highest score is a normal clip: no recall up to a false positive rate of 1/4, so an area of 0 up to 0.1.
        # McClish: (1 + (0 - 0.1**2 / 2) / (0.1 - 0.1**2 / 2)) / 2 = (1 - 1 / 19) / 2 = 9 / 19.
        assert line.rates.p_auc == pytest.approx(9 / 19)
        assert (line.domain, line.n_normal, line.n_abnormal) == ("", 4, 2)
        assert all(map(math.isnan, line.rates[2:]))

    def test_each_machine_type_counts_alike(self):
        perfect, useless = [(0, 1.0, ""), (1, 2.0, "")], [(0, 1.0, ""), (1, 1.0, "")]
        sections = [
            *(section(perfect, "fan", "id_00"), section(useless, "fan", "id_02")),
            section(useless, "pump", "id_00"),
        ]
        found = official_scores(sections, "dcase2020")
        # Fans have (1 + 0.5) / 2 = 0.75 and pumps 0.5, AUC and partial AUC alike: 0.625, where sections would have 2/3.
        assert [(mean.machine_type, mean.rates.auc, mean.rates.p_auc) for mean in found.machines] == [
            ("fan", pytest.approx(0.75), pytest.approx(0.75)),
            ("pump", pytest.approx(0.5), pytest.approx(0.5)),
        ]
        assert [mean.rates.auc for mean in found.overall] == [pytest.approx(0.625)]
        assert found.total == pytest.approx(0.625)
        assert {mean.kind for mean in (*found.machines, *found.overall)} == {"arithmetic mean"}

    def test_the_score_is_the_mean_of_auc_and_partial_auc(self):
        found = official_scores([section(TWO_DOMAINS, name="id_00")], "dcase2020")
        assert found.total == pytest.approx((5 / 8 + 9 / 19) / 2)


class Test2021:
    """A domain has an AUC, a partial AUC and alarms of its own clips alone."""

    def test_domains_are_apart(self):
        found = official_scores([section(TWO_DOMAINS)], "dcase2021")
        rates = by_domain(found)
        assert list(rates) == ["source", "target"]
        # Source: 3 is above 1 and 2. Target: 5 is above 4 and below 6, and 6 comes first.
        assert rates["source"][:2] == (1, 1)
        assert rates["target"][:2] == pytest.approx((1 / 2, 9 / 19))
        assert [(line.n_normal, line.n_abnormal) for line in found.sections] == [(2, 1), (2, 1)]

    def test_alarms_are_counted_by_domain(self):
        rates = by_domain(official_scores([section(TWO_DOMAINS)], "dcase2021"))
        # Above 2.5 are: in source 3, which is abnormal; in target all of 4, 6 and 5, of which one is abnormal.
        assert rates["source"][2:] == (1, 1, 1)
        assert rates["target"][2:] == pytest.approx((1 / 3, 1, 1 / 2))

    def test_the_score_is_the_harmonic_mean_of_all_aucs_and_partial_aucs(self):
        found = official_scores([section(TWO_DOMAINS)], "dcase2021")
        # 4 / (1/1 + 1/1 + 2 + 19/9) = 4 / (55/9) = 36/55
        assert found.total == pytest.approx(36 / 55)

    def test_means_are_over_sections_and_domains(self):
        found = official_scores([section(TWO_DOMAINS), section(POOR, "pump")], "dcase2021")
        # Pump: in source 8 is above 1 and 7, in target 3 above 2; all is 1. AUCs of all: 1, 1/2, 1, 1.
        assert [(mean.machine_type, mean.kind, mean.domain) for mean in (*found.machines, *found.overall)] == [
            *((name, kind, "") for name in ("fan", "pump", "") for kind in ("arithmetic mean", "harmonic mean"))
        ]
        assert [mean.rates.auc for mean in found.machines] == pytest.approx([3 / 4, 2 / 3, 1, 1])
        assert [mean.rates.auc for mean in found.overall] == pytest.approx([7 / 8, 4 / 5])


@pytest.mark.parametrize("year", DOMAINS_FROM_2022)
class TestFrom2022:
    """A domain's AUC has the anomalies of both domains, and the partial AUC is of both."""

    def test_aucs_have_the_anomalies_of_both_domains(self, year):
        found = official_scores([section(TWO_DOMAINS)], year)
        rates = by_domain(found)
        # Source: 3 and 5 are above 1 and 2. Target: 3 is below 4 and 6, 5 is above 4 and below 6. All: as in 2020.
        assert [rates[domain].auc for domain in ("", "source", "target")] == pytest.approx([5 / 8, 1, 1 / 4])
        assert [one.p_auc for one in rates.values()] == pytest.approx([9 / 19] * 3)
        assert [(line.n_normal, line.n_abnormal) for line in found.sections] == [(4, 2), (2, 2), (2, 2)]

    def test_alarms_are_counted_by_domain(self, year):
        rates = by_domain(official_scores([section(TWO_DOMAINS)], year))
        assert rates["source"][2:] == (1, 1, 1)
        assert rates["target"][2:] == pytest.approx((1 / 3, 1, 1 / 2))
        assert all(map(math.isnan, rates[""][2:]))

    def test_the_partial_auc_counts_once_in_the_score(self, year):
        # 3 / (1 + 4 + 19/9) = 3 / (64/9) = 27/64
        assert official_scores([section(TWO_DOMAINS)], year).total == pytest.approx(27 / 64)

    def test_means_of_a_machine_type(self, year):
        found = official_scores([section(TWO_DOMAINS), section(POOR, name="section_01")], year)
        # Section 01: in source, 8 is above 1 and 7, 3 above 1 alone: 3/4; in target, 8 and 3 are above 2: 1.
        # AUCs: source 1 and 3/4, target 1/4 and 1.
        assert [(mean.kind, mean.domain) for mean in found.machines] == [
            ("arithmetic mean", ""),
            ("harmonic mean", ""),
            ("harmonic mean", "source"),
            ("harmonic mean", "target"),
        ]
        means = [3 / 4, 4 / (1 + 4 / 3 + 4 + 1), 2 / (1 + 4 / 3), 2 / (4 + 1)]
        assert [mean.rates.auc for mean in found.machines] == pytest.approx(means)
        assert [mean.rates.auc for mean in found.overall] == pytest.approx(means)
        # Recall in section 00: 1 and 1; in section 01: 1 and 1. Precision: 1 and 1/3; 1/2 and 1.
        assert found.machines[0].rates.precision == pytest.approx((1 + 1 / 3 + 1 / 2 + 1) / 4)
        assert found.machines[3].rates.precision == pytest.approx(2 / (3 + 1))

    def test_the_auc_of_all_clips_is_that_of_the_domains_weighted_by_normal_clips(self, year):
        # So it is in the organisers' results of 2025: 0.5769 of 0.8102 and 0.3436, with as many clips of each.
        rates = by_domain(official_scores([section(POOR)], year))
        assert rates[""].auc == pytest.approx((2 * rates["source"].auc + 1 * rates["target"].auc) / 3)


def test_sections_are_in_order_of_their_names():
    names = [("pump", "section_00"), ("fan", "section_01"), ("ToyCar", "section_00"), ("fan", "section_00")]
    found = official_scores([section(TWO_DOMAINS, *name) for name in names], "dcase2021")
    assert [(line.machine_type, line.section) for line in found.sections[::2]] == sorted(names)


clips = st.lists(
    st.tuples(st.integers(-1, 1), st.integers(0, 5).map(float), st.sampled_from(("source", "target"))), max_size=40
)


def or_nan(score, labels, scores):
    return score(labels, scores) if len(set(labels)) == 2 else math.nan


@given(clips=clips)
def test_aucs_from_2022_on_are_those_of_scikit_learn(clips):
    labels, scores, domains = (np.array(one) for one in zip(*clips, strict=True)) if clips else (np.zeros(0),) * 3
    rates = by_domain(official_scores([section(clips)], "dcase2022"))
    for domain in ("source", "target"):
        chosen = (labels == 1) | ((labels == 0) & (domains == domain))
        auc = or_nan(metrics.roc_auc_score, labels[chosen], scores[chosen])
        assert rates[domain].auc == pytest.approx(auc, nan_ok=True)
        known = labels >= 0
        assert rates[domain].p_auc == pytest.approx(or_nan(p_auc, labels[known], scores[known]), nan_ok=True)


@given(clips=clips)
def test_values_of_2021_are_those_of_scikit_learn(clips):
    rates = by_domain(official_scores([section(clips)], "dcase2021"))
    for domain in ("source", "target"):
        own = [(label, score) for label, score, where in clips if where == domain and label >= 0]
        labels, scores = zip(*own, strict=True) if own else ((), ())
        if len(set(labels)) < 2:
            assert all(map(math.isnan, rates[domain]))
            continue
        alarms = [score > 2.5 for score in scores]
        at_threshold = metrics.precision_recall_fscore_support(labels, alarms, average="binary", zero_division=0)[:3]
        expected = (metrics.roc_auc_score(labels, scores), p_auc(labels, scores), *at_threshold)
        assert rates[domain] == pytest.approx(expected)


@given(sections=st.lists(clips, min_size=1, max_size=3))
@settings(max_examples=20)
@pytest.mark.parametrize("year", YEARS)
def test_no_labels_or_domains_stop_it(sections, year):
    machines = [section(one, name=f"section_{number:02}") for number, one in enumerate(sections)]
    found = official_scores(machines, year)
    if year > "dcase2021":
        values = [line.rates.auc for line in found.sections if line.domain]
        values += [line.rates.p_auc for line in found.sections if not line.domain]
        known = [max(value, sys.float_info.epsilon) for value in values if not math.isnan(value)]
        assert found.total == pytest.approx(stats.hmean(known) if known else math.nan, nan_ok=True)
        assert found.n_missing == len(values) - len(known)
    assert official_document(found)
    assert bool(result_files(machines, year)) == (year != "dcase2021" or any(sections))


def test_an_auc_of_nothing_makes_the_harmonic_mean_almost_nothing():
    worst = [(0, 2.0, "source"), (1, 1.0, "source"), (0, 1.0, "target"), (1, 3.0, "target")]
    found = official_scores([section(worst)], "dcase2021")
    epsilon = sys.float_info.epsilon
    # AUCs are 0 and 1, of which the harmonic mean is 2 / (1 / epsilon + 1), as in the evaluators.
    assert found.machines[1].rates.auc == pytest.approx(2 / (1 / epsilon + 1), rel=1e-9)
    assert 0 < found.total < 1e-15
    assert found.machines[0].rates.auc == 0.5


def test_without_an_alarm_precision_is_nothing():
    rates = by_domain(official_scores([section(TWO_DOMAINS, threshold=math.inf)], "dcase2022"))
    assert rates["source"][2:] == (0, 0, 0)
    assert by_domain(official_scores([section(TWO_DOMAINS, threshold=math.nan)], "dcase2022")) == rates


def test_sections_without_labels_are_left_out_and_counted():
    hidden = [(-1, score, domain) for _, score, domain in TWO_DOMAINS]
    sections = [section(TWO_DOMAINS), section(hidden, name="section_03")]
    for year in YEARS:
        found, alone = official_scores(sections, year), official_scores(sections[:1], year)
        assert found.total == alone.total
        assert found.machines[0].rates == pytest.approx(alone.machines[0].rates, nan_ok=True)
        assert all(math.isnan(value) for value in found.sections[-1].rates)
        assert found.n_missing == {"dcase2020": 2, "dcase2021": 4}.get(year, 3)
        assert found.machines[0].n_missing == (1 if year == "dcase2020" else 2)
        assert (alone.n_missing, alone.machines[0].n_missing) == (0, 0)


def test_without_labels_at_all_everything_is_nan():
    for year in YEARS:
        for sections in ([section([(-1, 1.0, "source")])], []):
            found = official_scores(sections, year)
            assert math.isnan(found.total)
            assert all(math.isnan(value) for mean in found.overall for value in mean.rates)


def test_a_domain_without_normal_clips_is_missing_alone():
    found = official_scores([section([clip for clip in TWO_DOMAINS if clip[2] == "source" or clip[0]])], "dcase2023")
    rates = by_domain(found)
    assert rates["source"].auc == 1
    assert math.isnan(rates["target"].auc)
    assert rates["target"].p_auc == 1
    assert found.total == 1
    assert (found.n_missing, found.machines[0].n_missing) == (1, 1)


def test_clips_without_score_are_left_out_and_infinite_scores_count():
    extreme = [(0, math.nan, "source"), (1, math.nan, "source"), (0, -math.inf, "source"), (1, math.inf, "source")]
    (source, _) = official_scores([section(extreme)], "dcase2021").sections
    assert source.rates == (1, 1, 1, 1, 1)
    assert (source.n_normal, source.n_abnormal) == (1, 1)


def test_unknown_years_and_machines_that_are_there_twice_are_refused():
    for function in (official_scores, result_files):
        with pytest.raises(ValueError, match=r"dcase2019.*dcase2020"):
            function([], "dcase2019")
        with pytest.raises(ValueError, match="several machines are fan section_00"):
            function([section(TWO_DOMAINS), section(POOR)], "dcase2023")


FILES = Section(
    machine_type="fan",
    name="section_00",
    labels=(1, -1, 0),
    scores=(0.1 + 0.2, 2.0, 1e-7),
    domains=("target", "source", "source"),
    paths=("s3://raw/dev.zip/fan/test/c_anomaly.wav", "b, 2.wav", "fan/test/a.wav"),
    threshold=0.25,
)


@pytest.mark.parametrize("year", DOMAINS_FROM_2022)
def test_files_from_2022_on(year):
    assert result_files([FILES], year) == {
        "anomaly_score_fan_section_00_test.csv": b'a.wav,1e-07\n"b, 2.wav",2.0\nc_anomaly.wav,0.30000000000000004\n',
        "decision_result_fan_section_00_test.csv": b'a.wav,0\n"b, 2.wav",1\nc_anomaly.wav,1\n',
    }


def test_files_of_2021_are_by_domain():
    assert result_files([FILES], "dcase2021") == {
        "anomaly_score_fan_section_00_source_test.csv": b'a.wav,1e-07\n"b, 2.wav",2.0\n',
        "decision_result_fan_section_00_source_test.csv": b'a.wav,0\n"b, 2.wav",1\n',
        "anomaly_score_fan_section_00_target_test.csv": b"c_anomaly.wav,0.30000000000000004\n",
        "decision_result_fan_section_00_target_test.csv": b"c_anomaly.wav,1\n",
    }
    unknown = dataclasses.replace(FILES, domains=("", "", ""))
    assert len(result_files([unknown], "dcase2021")["anomaly_score_fan_section_00_test.csv"].splitlines()) == 3


def test_files_of_2020_have_no_decisions():
    first, second = dataclasses.replace(FILES, name="id_00"), dataclasses.replace(FILES, name="id_02")
    assert result_files([first, second], "dcase2020") == dict.fromkeys(
        ("anomaly_score_fan_id_00.csv", "anomaly_score_fan_id_02.csv"),
        b'a.wav,1e-07\n"b, 2.wav",2.0\nc_anomaly.wav,0.30000000000000004\n',
    )


def test_a_score_at_the_threshold_is_no_alarm():
    at = dataclasses.replace(FILES, threshold=2.0)
    assert b'"b, 2.wav",0\n' in result_files([at], "dcase2022")["decision_result_fan_section_00_test.csv"]


def test_the_document_has_all_lines_and_what_is_published():
    document = official_document(official_scores([section(TWO_DOMAINS, "shaker")], "dcase2023"))
    # The published partial AUC is of both domains, and so is beside each.
    assert document.decode() == (
        "machine_type,section,domain,auc,p_auc,precision,recall,f1,n_normal,n_abnormal,n_missing,"
        "published_auc,published_p_auc,official_score\n"
        "shaker,section_00,,0.625,0.473684,,,,4,2,,,0.549165,\n"
        "shaker,section_00,source,1,0.473684,1,1,1,2,2,,0.69429,0.549165,\n"
        "shaker,section_00,target,0.25,0.473684,0.333333,1,0.5,2,2,,0.560412,0.549165,\n"
        "shaker,arithmetic mean,,0.625,0.473684,0.666667,1,0.75,,,0,,,\n"
        "shaker,harmonic mean,,0.4,0.473684,0.5,1,0.666667,,,0,,,\n"
        "shaker,harmonic mean,source,1,0.473684,1,1,1,,,0,,,\n"
        "shaker,harmonic mean,target,0.25,0.473684,0.333333,1,0.5,,,0,,,\n"
        ",arithmetic mean,,0.625,0.473684,0.666667,1,0.75,,,0,,,\n"
        ",harmonic mean,,0.4,0.473684,0.5,1,0.666667,,,0,,,\n"
        ",harmonic mean,source,1,0.473684,1,1,1,,,0,,,\n"
        ",harmonic mean,target,0.25,0.473684,0.333333,1,0.5,,,0,,,\n"
        ",official score,,,,,,,,,0,,,0.421875\n"
    )


@pytest.mark.parametrize("year", YEARS)
def test_every_line_of_the_document_has_all_cells(year):
    hidden = section([(-1, 1.0, "source")], "gearbox")
    document = official_document(official_scores([section(TWO_DOMAINS), hidden], year)).decode()
    rows = list(csv.reader(document.splitlines()))
    assert {len(row) for row in rows} == {14}
    assert "nan" not in document
    assert rows[-1][10] == {"dcase2020": "2", "dcase2021": "4"}.get(year, "3")


def test_means_are_those_of_the_lines():
    sections = [section(TWO_DOMAINS), section(POOR, name="section_01"), section(POOR, "pump")]
    found = official_scores(sections, "dcase2024")
    for position in range(5):
        values = [line.rates[position] for line in found.sections if line.domain]
        assert found.overall[0].rates[position] == pytest.approx(fmean(values))
        assert found.overall[1].rates[position] == pytest.approx(harmonic_mean(values))
