"""The page of results: who is first and since when, what is shown and heard, what is said where nothing is known."""

import base64
import csv
import io
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from PIL import Image

import mimii
from mimii.detection import shown
from mimii.detection.charts import bands_chart, date_ticks, format_time, number_ticks
from mimii.detection.listening import Excerpt, read_sounds
from mimii.detection.machines import Machine
from mimii.detection.make import _study
from mimii.detection.page import write_page
from mimii.detection.ranking import alarm_level, judge, rank_machines
from mimii.detection.shown import choose_cases, differing_bands
from mimii.detection.study import Outcome, Scores
from mimii.features import FeatureSpec
from mimii.recordings import Part, wav_bytes
from mimii.storage import DEFAULT_ACCESS, open_objects
from mimii.table import Columns, RowSpan, open_store
from tests.helpers.browser import look_at, picture_of
from tests.helpers.recordings import noise, write_clip

NAN, INF = math.nan, math.inf
RATE, SECONDS, N_CLIPS = 16_000, 2, 20
HOSTILE = """a "b" <script>alert('1')</script> & c"""
DAY = 86_400.0
BEGAN = datetime(2026, 10, 1, tzinfo=UTC)


def tone(seed, loudness):
    """Return noise and, in the last half second, a tone of 3 kHz."""
    time = np.arange(RATE * SECONDS) / RATE
    samples = 800 * np.random.default_rng(seed).standard_normal(len(time))
    samples += loudness * np.sin(2 * np.pi * 3000 * time) * (time >= 1.5)
    return np.clip(samples, -32768, 32767).astype(np.int16)[:, np.newaxis]


def write_recordings(root):
    """Write three machines, a clip a day: one has a tone in its last seven clips, one in its last one."""
    lines = []
    for number, first in enumerate((N_CLIPS, 13, 19)):
        folder = root / (HOSTILE if number == 1 else f"machine {number}").replace("/", "|")
        folder.mkdir(parents=True)
        for clip in range(N_CLIPS):
            path = folder / f"{clip:02d}.wav"
            path.write_bytes(wav_bytes(tone(100 * number + clip, 1500 if clip >= first else 0), RATE))
            lines.append(
                {
                    "path": path,
                    "machine_type": "fan",
                    "machine_id": f"id_0{number}",
                    "recorded_at": (BEGAN + timedelta(days=clip)).isoformat(),
                    "label": int(clip >= first),
                    "split": "train" if clip < 10 else "test",
                }
            )
    with (root / "list.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, lines[0])
        table.writeheader()
        table.writerows(lines)
    return root / "list.csv"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    found = mimii.find_recordings(lists=write_recordings(folder / "raw"))
    spec = FeatureSpec.preset("mimii-baseline")
    mimii.featurize(mimii.plan_table(found, spec), folder / "table")
    kinds = mimii.Training(["neighbours", "pca"])
    return mimii.detect(folder / "table", folder / "out", training=kinds)


def study_of(report, training=None):
    table = open_store(report.output.removesuffix("out") + "table", DEFAULT_ACCESS)
    return _study(report.columns, table, open_objects(report.output, DEFAULT_ACCESS), training or mimii.Training())


def page_of(report, results=None, columns=None, training=None):
    training = training or mimii.Training(["neighbours", "pca"])
    results = report.results if results is None else results
    return write_page(columns or report.columns, study_of(report, training), results, DEFAULT_ACCESS).decode()


@pytest.fixture(scope="module")
def page(report):
    return page_of(report)


def one_detector(results):
    return [(machine, replace(outcome, detectors={"neighbours": outcome.scores})) for machine, outcome in results]


def with_scores(results, **changes):
    return [
        (machine, replace(outcome, detectors={"neighbours": replace(outcome.scores, **changes)}))
        for machine, outcome in results
    ]


def without_labels(results):
    unknown = [
        (machine, replace(outcome, labels=(-1,) * len(outcome.labels))) for machine, outcome in one_detector(results)
    ]
    return with_scores(unknown, auc_interval=(NAN, NAN), partial_auc_interval=(NAN, NAN))


def text_of(page):
    """Return the words that are read on a page, with single spaces."""
    body = re.sub(r"(?s)<(style|script|svg).*?</\1>", "", page[page.index("<body>") :])
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


class Reader(HTMLParser):
    """Collects the elements, and URLs."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.references, self.problems = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.references += [value for name, value in attributes if name in {"src", "href", "xlink:href", "action"}]

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


# How machines are ranked, of scores alone


def outcome_of(normal, scores, threshold=2.0, labels=None):
    clips = tuple(range(len(normal), len(normal) + len(scores)))
    of_kind = Scores(tuple(range(len(normal))), tuple(normal), threshold, 9.0, tuple(scores), (NAN, NAN), (NAN, NAN))
    return Outcome("fan", len(normal), clips, tuple(labels or [-1] * len(scores)), {"neighbours": of_kind})


def machine_of(name="fan"):
    span = RowSpan(0, 0, 1, 0)
    return Machine(name, "fan", "", NAN, 0, (span,), (0,), ("",), (), ())


def columns_of(recorded_at):
    n_clips = len(recorded_at)
    strings = dict.fromkeys(
        ("path", "machine_type", "machine_id", "split", "status", "domain"), np.array([""] * n_clips)
    )
    numbers = dict.fromkeys(("channel", "start_s", "duration_s", "number", "snr_db", "label"), np.zeros(n_clips))
    numbers |= dict.fromkeys(("first_row", "n_rows", "feature_mean", "feature_std"), np.zeros(n_clips))
    return Columns(attributes={}, recorded_at=np.array(recorded_at, float), **strings, **numbers)


def standing_of(normal, scores, recorded_at=None, threshold=2.0):
    outcome = outcome_of(normal, scores, threshold)
    n_clips = len(normal) + len(scores)
    return judge(machine_of(), outcome, columns_of([NAN] * n_clips if recorded_at is None else recorded_at))


def test_the_latest_ten_clips_by_time_say_how_a_machine_is_now():
    scores = [9.0] * 5 + [3.0] * 10
    times = [NAN, *(DAY * np.arange(16))]
    one = standing_of([1.0, 1.0], scores, times)
    assert one.score == 3.0
    assert (one.level, one.rank, one.n_alarms) == (2.0, 1.0, 10)
    newest_first = standing_of([1.0, 1.0], scores[::-1], times[:2] + times[:1:-1])
    assert newest_first.score == 3.0


def test_training_clips_count_when_they_are_the_latest():
    one = standing_of([3.0] * 10, [1.0] * 5, [*(DAY * np.arange(10, 20)), *(DAY * np.arange(5))])
    assert one.score == 3.0


def test_where_no_time_is_known_the_highest_scores_of_clips_not_learned_from_count():
    one = standing_of([9.0] * 5, [5.0, *[1.0] * 20, *[4.0] * 9])
    assert len(one.latest) == 3
    assert one.score == 4.0
    only_training = standing_of([1.0] * 20 + [3.0] * 10, [])
    assert only_training.score == 3.0
    many = standing_of([1.0] * 10, [*[7.0] * 40, *[1.0] * 960])
    assert len(many.latest) == 100
    assert many.score == 1.0  # one clip in 25 is no more than a few false alarms


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([1, 1, 3, 3, 3], 4 * DAY),
        ([3, 1, 3, 1, 3], 6 * DAY),
        ([3, 3, 3, 3, 1], NAN),
        ([3, 3, 3, 3, 3], 2 * DAY),
        ([1, 1, 1, 1, 1], NAN),
    ],
)
def test_an_alarm_began_with_the_unbroken_run_that_lasts_until_the_latest_clip(scores, since):
    times = DAY * np.arange(7)
    one = standing_of([1.0, 1.0], scores, times)
    assert one.since == pytest.approx(since, nan_ok=True)
    shuffled = [4, 2, 0, 1, 3]
    other = standing_of([1.0, 1.0], [scores[place] for place in shuffled], times[[0, 1, *(2 + np.array(shuffled))]])
    assert other.since == pytest.approx(since, nan_ok=True)


def test_nothing_began_where_no_time_or_no_threshold_is_known():
    assert math.isnan(standing_of([1.0, 1.0], [3.0] * 5).since)
    assert math.isnan(standing_of([1.0, 1.0], [3.0] * 5, DAY * np.arange(7), threshold=INF).since)


def test_a_level_is_0_for_a_typical_normal_clip_and_1_at_the_threshold():
    scores = outcome_of([1.0, 2.0, 6.0], [], threshold=4.0).scores
    assert [alarm_level(score, scores) for score in (2.0, 4.0, 6.0, 1.0)] == [0.0, 1.0, 2.0, -0.5]
    assert math.isnan(alarm_level(NAN, scores))


@pytest.mark.parametrize("threshold", [INF, 0.5, 2.0])
def test_a_level_has_another_threshold_where_that_one_is_infinite_or_not_above_the_median(threshold):
    few = [
        alarm_level(4.0, outcome_of(normal, [], threshold).scores) for normal in ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0] * 9)
    ]
    assert 0 < few[0] < 0.2 < few[1] < 1


@pytest.mark.parametrize("normal", [[], [1.0], [1.0] * 20])
def test_no_level_without_a_threshold_and_scatter(normal):
    assert math.isnan(alarm_level(4.0, outcome_of(normal, [], INF).scores))


def test_machines_are_ranked_by_level_and_those_without_one_come_last():
    columns = columns_of([NAN] * 6)
    of_normal = {"b": ([1.0, 1.2], [9.0]), "a": ([1.0, 1.2], [1.1]), "none": ([], [5.0]), "c": ([1.0, 1.2], [3.0])}
    results = [(machine_of(name), outcome_of(*scores)) for name, scores in of_normal.items()]
    ranked = rank_machines(results, columns)
    assert [one.machine.name for one in ranked] == ["b", "c", "a", "none"]
    assert [one.verdict for one in ranked] == ["abnormal", "abnormal", "normal", "abnormal"]
    assert not any(one.is_trusted for one in ranked)


def test_a_machine_to_be_watched_comes_behind_alarms_and_before_the_others():
    columns = columns_of(DAY * np.arange(7))
    last = {"calm": [1.9] * 5, "new": [1.0, 1.0, 1.0, 1.0, 3.0], "alarm": [3.0] * 5}
    results = [(machine_of(name), outcome_of([1.0, 1.2], scores)) for name, scores in last.items()]
    ranked = rank_machines(results, columns)
    assert [one.machine.name for one in ranked] == ["alarm", "new", "calm"]
    assert [one.is_new for one in ranked] == [False, True, False]


# The first screen


def test_the_most_alarming_machine_is_first_with_since_when(report, page):
    assert rank_machines(report.results, report.columns)[0].machine.machine_id == "id_01"
    words = text_of(page)
    rows = re.findall(r'<th scope="row" role="rowheader"><a href="#m(\d)">(.*?)</a>', page)
    assert [number for number, _ in rows] == ["1", "2", "3"]
    assert rows[0][1] == "fan-id_01"
    assert words.index("Machines, the most alarming first") < words.index("Each machine") < words.index("How good")
    assert "2026-10-14 00:00" in words


def test_a_machine_of_which_only_the_latest_clip_is_an_alarm_is_to_be_watched(page):
    words = text_of(page)
    assert "Watch fan-id_02: the very latest clip is above the threshold" in words
    assert "\N{WHITE UP-POINTING TRIANGLE} watch" in words.replace("&#9651;", "\N{WHITE UP-POINTING TRIANGLE}")


def test_a_score_is_also_its_rank_among_normal_clips(page):
    assert "of 10 normal clips" in text_of(page)


def test_each_machine_has_a_sparkline_and_a_button_that_plays_its_sound(page):
    found = Reader(page)
    buttons, sounds = found.of("button"), {one["id"] for one in found.of("audio")}
    assert len(buttons) == page.count('class="spark"') == 3
    assert all(one["data-sound"] in sounds and "fan-id_0" in one["aria-label"] for one in buttons)
    assert all("hidden" in one for one in buttons)  # without JavaScript there are the controls below


def test_machines_with_too_few_normal_clips_are_named_first(report):
    *others, first = sorted(one_detector(report.results), key=lambda one: -int(one[0].machine_id[-1:]))
    few = replace(first[1].scores, normal=first[1].scores.normal[:4], normal_clips=first[1].scores.normal_clips[:4])
    words = text_of(page_of(report, [*others, (first[0], replace(first[1], detectors={"neighbours": few}))]))
    assert "Not to be trusted yet: fan-id_00." in words
    assert words.index("Not to be trusted yet") < words.index("Machines, the most alarming first")
    assert "its threshold comes from 4 normal clips" in words


def test_infinite_thresholds_raise_no_alarm_and_are_said(report):
    words = text_of(page_of(report, with_scores(report.results, threshold=INF, peak_threshold=INF)))
    assert "Not to be trusted yet: fan-id_01" in words
    assert words.count("no threshold") > 3
    assert "too few for a threshold" in words
    assert not re.search(r"\b(inf|nan)\b|0 of 0", words)


def test_without_labels_the_page_says_what_it_can(report):
    columns = replace(report.columns, label=np.full_like(report.columns.label, -1))
    text = page_of(report, without_labels(report.results), columns, mimii.Training())
    words = text_of(text)
    assert "No scored clip has a label" in words
    assert "AUC" not in words
    assert "labelled" not in words
    assert not re.search(r"\b(inf|nan)\b|0 of 0", words)
    assert text.count("<image") == len(Reader(text).of("audio")) == 18


def test_without_times_there_is_no_since(report):
    columns = replace(report.columns, recorded_at=np.full(len(report.columns.path), NAN))
    words = text_of(page_of(report, one_detector(report.results), columns))
    assert "since it is not known when its clips were recorded" in words
    assert "above the threshold since" not in words


def test_one_machine(report):
    words = text_of(page_of(report, report.results[:1]))  # by path, that is the one with the hostile name
    assert "1 of 1 machine sounds abnormal" in words
    assert text_of(page_of(report, report.results[1:2])).startswith(
        "Skip to the ranking of the machines Which machines sound abnormal? The machine does not sound abnormal"
    )


def test_one_clip(tmp_path):
    write_clip(tmp_path / "raw" / "press" / "normal" / "1.wav", 1)
    found = mimii.find_recordings(tmp_path / "raw")
    mimii.featurize(mimii.plan_table(found, split="none"), tmp_path / "table")
    report = mimii.detect(tmp_path / "table", tmp_path / "out")
    words = text_of((tmp_path / "out" / "report.html").read_text())
    assert "Not to be trusted yet: " in words
    assert f"No clip of {report.results[0][0].name} has a score." in words
    assert not re.search(r"\b(inf|nan)\b|0 of 0", words)


# What is shown of a machine


def test_the_most_alarming_moment_is_found_beside_a_normal_clip(report):
    [ranked, *_] = rank_machines(report.results, report.columns)
    case = choose_cases([ranked], report.columns, study_of(report), DEFAULT_ACCESS)[0][0]
    train = {span.clip for span in ranked.machine.train}
    assert case.alarming.clip not in train
    assert case.normal.clip in train
    assert case.alarming.moment == pytest.approx((1.5, 2.0), abs=0.1)
    assert case.events[-1][1] == pytest.approx(2.0, abs=0.1)
    assert case.is_of_moment
    assert case.bands[0].hz == pytest.approx(3000, rel=0.05)
    assert case.bands[0].db > 5


def test_detectors_of_rows_compare_a_clip_with_the_nearest_normal_one(tmp_path, report):
    training = mimii.Training("pca")
    found = mimii.detect(report.output.removesuffix("out") + "table", tmp_path / "out", training=training)
    [ranked, *_] = rank_machines(found.results, found.columns)
    study = replace(study_of(report, training), output=open_objects(str(tmp_path / "out"), DEFAULT_ACCESS))
    [case] = shown.look_closer(ranked, study, 1)
    assert not case.is_of_moment
    assert case.bands[0].hz == pytest.approx(3000, rel=0.05)
    assert case.alarming.moment == pytest.approx((1.5, 2.0), abs=0.1)


def test_a_training_clip_is_not_its_own_nearest_clip(report):
    [ranked, *_] = rank_machines(report.results, report.columns)
    places = np.flatnonzero(ranked.history.is_training)[:3]
    for case in shown.look_closer(replace(ranked, latest=places), study_of(report), 3):
        assert case.normal.clip != case.alarming.clip


def test_of_a_long_recording_the_seconds_around_the_moment_are_shown(tmp_path):
    raw, rng = tmp_path / "press", np.random.default_rng(0)
    for clip in range(6):
        (raw / "normal").mkdir(parents=True, exist_ok=True)
        (raw / "normal" / f"{clip}.wav").write_bytes(wav_bytes(tone(clip, 0), RATE))
    samples = 800 * rng.standard_normal((60 * RATE, 1))
    samples[40 * RATE : 41 * RATE] *= 8
    (raw / "long.wav").write_bytes(wav_bytes(samples.astype(np.int16), RATE))
    lines = ["path,machine_id,label,split", *(f"press/normal/{clip}.wav,id_00,0,train" for clip in range(6))]
    (tmp_path / "list.csv").write_text("\n".join([*lines, "press/long.wav,id_00,,test"]))
    found = mimii.find_recordings(lists=tmp_path / "list.csv")
    mimii.featurize(mimii.plan_table(found, FeatureSpec.preset("mimii-baseline")), tmp_path / "table")
    report = mimii.detect(tmp_path / "table", tmp_path / "out")
    [[case]] = choose_cases(
        rank_machines(report.results, report.columns), report.columns, study_of(report), DEFAULT_ACCESS
    )
    assert 39.9 < sum(case.alarming.moment) / 2 < 41.1
    assert case.alarming.sound.start_s == pytest.approx(sum(case.alarming.moment) / 2 - 2, abs=0.01)
    assert case.alarming.sound.stop_s - case.alarming.sound.start_s == 4
    seconds = [float(text) for text in re.findall(r'text-anchor="middle">([\d.]+)</text>', case.alarming.picture)]
    assert min(seconds) >= 34
    assert max(seconds) <= 47
    assert ">60</text>" in case.time_chart


def test_bands_that_differ_most_are_not_neighbours():
    spec = FeatureSpec()
    differences = np.zeros((2, 64), np.float32)
    differences[0, 20:23], differences[1, 40], differences[0, 60] = (5, 6, 5), 4, -3
    bands = differing_bands(differences, np.abs(differences), spec)
    assert [(round(band.db), band.is_maximum) for band in bands] == [(6, False), (4, True), (-3, False)]


def data_of(page, kind):
    return [base64.b64decode(data) for data in re.findall(rf'="data:{kind};base64,([^"]+)"', page)]


def test_pictures_and_sounds_are_whole(page):
    pictures, sounds = data_of(page, "image/png"), data_of(page, "audio/flac")
    assert len(pictures) == len(sounds) == 18
    for data in pictures[:2]:
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == "P"
            assert image.size[1] == 64
            assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 20
    samples, sample_rate = soundfile.read(io.BytesIO(sounds[0]))
    assert (sample_rate, len(samples)) == (RATE, RATE * SECONDS)


def test_several_detectors_are_compared(page):
    words = text_of(page)
    assert "Detectors compared" in words
    assert re.search(r"By mean AUC, (neighbours|pca) would have been best on these clips", words)
    assert "neighbours (decides)" in words


def test_aucs_have_intervals_and_what_is_not_known_is_a_dash(report):
    changed = with_scores(report.results, auc_interval=(0.25, 0.75))
    words = text_of(page_of(report, changed))
    assert "0.25 to 0.75" in words
    only_normal = [(machine, replace(outcome, labels=(0,) * len(outcome.labels))) for machine, outcome in changed]
    words = text_of(page_of(report, with_scores(only_normal, auc_interval=(NAN, NAN), partial_auc_interval=(NAN, NAN))))
    assert re.search(r"Of the clips with a label, \d+ of \d+ normal ones were false alarms\.", words)
    assert re.search(r" fan-id_01 - - - \S+ - \d+ of \d+ - - - fan", words)
    assert not re.search(r"\b(inf|nan)\b|0 of 0", words)
    only_abnormal = [(machine, replace(outcome, labels=(1,) * len(outcome.labels))) for machine, outcome in changed]
    words = text_of(page_of(report, with_scores(only_abnormal, auc_interval=(NAN, NAN))))
    assert re.search(r"Of the clips with a label, \d+ of \d+ abnormal ones were found\. Detector", words)


def test_the_page_says_why_there_is_no_sound(report):
    columns = replace(report.columns, path=np.array([f"/gone/<{place}>.wav" for place in range(3 * N_CLIPS)]))
    text = page_of(report, columns=columns)
    assert "No sound: cannot be read: " in text
    assert "not tried, since 5 others in a row could not be read" in text
    assert re.search(r"No sound of 3 machines: cannot be read: .* fan-id_01, ", text_of(text))
    assert "<audio" not in text
    assert "<button" not in text


# Names, requests, size


def test_paths_are_escaped(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;|script&gt; &amp; c" in page
    assert len(Reader(page).of("script")) == 1


def test_the_page_refers_to_nothing_outside(page):
    found = Reader(page)
    assert all(reference.startswith(("data:", "#")) for reference in found.references)
    assert not {"link", "iframe", "object", "embed"} & {name for name, _ in found.elements}
    assert not re.search(r"url\((?!#)|@import", page)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in found.references if reference.startswith("#")} <= set(ids)


def test_pictures_have_words_and_tables_have_headings(page):
    found = Reader(page)
    assert all(attributes.get("aria-label") for _, attributes in found.elements if attributes.get("role") == "img")
    assert all("scope" in one for one in found.of("th"))
    assert len(found.of("caption")) == len(found.of("table")) == 3
    headings = [int(name[1]) for name, _ in found.elements if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_the_same_results_make_the_same_page(report, page):
    assert page_of(report) == page


@pytest.fixture
def many(report, monkeypatch):
    """Return a hundred machines that are all like one."""
    monkeypatch.setattr(shown, "model_key", lambda _: "models/fan-id_01.npz")
    machine, outcome = next(one for one in one_detector(report.results) if one[0].machine_id == "id_01")
    return [(replace(machine, name=f"m{number:03d}"), replace(outcome, name=f"m{number:03d}")) for number in range(100)]


def test_a_page_of_a_hundred_machines_stays_within_its_bytes(report, many, monkeypatch):
    monkeypatch.setattr(shown, "SOUND_BYTES", 400_000)
    monkeypatch.setattr(shown, "PICTURE_BYTES", 500_000)
    text = page_of(report, many)
    sounds = sum(map(len, re.findall(r"data:audio/flac;base64,[^\"]+", text)))
    pictures = sum(map(len, re.findall(r"data:image/png;base64,[^\"]+", text)))
    assert 250_000 < sounds < 400_000 + 100 * len(data_of(text, "audio/flac"))
    assert 100_000 < pictures < 500_000
    assert text.count('class="spark"') == 100
    assert len(text) < 900_000 + 100 * 4000 + 100 * 3000
    words = text_of(text)
    assert re.search(r"No pictures and no sound of \d+ machines: left out .* Left out: m\d+, ", words)
    assert re.search(r"No sound of \d+ machines?: left out to keep this page small m\d+", words)
    assert "No sound: left out to keep this page small." in words


def test_the_bytes_for_sound_and_pictures_leave_room_for_the_lines():
    assert shown.SOUND_BYTES + shown.PICTURE_BYTES + 100 * 12_000 < 10_000_000


def test_rows_are_read_of_machines_that_are_shown_alone(report, many, monkeypatch):
    read = []
    look_closer = shown.look_closer
    monkeypatch.setattr(shown, "look_closer", lambda one, *rest: read.append(one) or look_closer(one, *rest))
    monkeypatch.setattr(shown, "PICTURE_BYTES", 100_000)
    page_of(report, many)
    assert len(read) <= 3


# Numbers on axes


def test_ticks_are_round_and_within_the_axis():
    assert [text for _, text in number_ticks((0.0, 6.0))] == ["0", "2", "4", "6"]
    assert [text for _, text in number_ticks((-0.31, 1.02))] == ["0", "0.5", "1"]
    assert [text for _, text in number_ticks((0.9, 3.1), whole=True)] == ["1", "2", "3"]
    assert date_ticks((0.0, 10 * DAY))[0][1] == "1970-01-01"
    assert date_ticks((0.0, DAY))[0][1] == "01-01 01:55"


def test_times_are_written_to_the_minute():
    assert format_time(0.0) == "1970-01-01 00:00"
    assert format_time(NAN) == "-"
    assert format_time(1e12).startswith("33658-")


def test_a_chart_of_equal_values_can_be_drawn():
    assert bands_chart(np.zeros(64, np.float32), FeatureSpec()).count("<path") >= 2


# Sound


def excerpt(path, middle_s=0.0, channel=0, start_s=0.0, duration_s=NAN):
    return Excerpt(str(path), Part(channel, start_s, duration_s), middle_s)


def test_recordings_become_sound_or_a_problem(tmp_path):
    there = write_clip(tmp_path / "there.wav", 5, n_channels=2)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "cut.wav").write_bytes(there.read_bytes()[:200])
    names = ("there.wav", "missing.wav", "empty.wav", "cut.wav", "no.zip/a.wav")
    found = read_sounds([excerpt(tmp_path / name, channel=1) for name in names], DEFAULT_ACCESS)
    samples, _ = soundfile.read(io.BytesIO(found[0].flac))
    assert np.corrcoef(samples, noise(5, n_channels=2)[:, 1])[0, 1] > 0.9999
    assert all(sound.problem and not sound.flac for sound in found[1:])


@pytest.mark.parametrize(
    ("middle_s", "start_s", "duration_s", "heard"),
    [
        (10.0, 0.0, NAN, (8, 12)),
        (0.5, 0.0, NAN, (0, 4)),
        (29.9, 0.0, NAN, (26, 30)),
        (6.0, 10.0, 9.0, (14, 18)),
        (1.0, 10.0, 2.0, (10, 12)),
        (0.0, NAN, NAN, (0, 4)),
    ],
)
def test_some_seconds_around_a_moment_are_heard(tmp_path, middle_s, start_s, duration_s, heard):
    path = write_clip(tmp_path / "long.wav", 1, n_samples=30 * RATE)
    [sound] = read_sounds([excerpt(path, middle_s, start_s=start_s, duration_s=duration_s)], DEFAULT_ACCESS)
    samples, _ = soundfile.read(io.BytesIO(sound.flac))
    expected, _ = soundfile.read(path, start=heard[0] * RATE, stop=heard[1] * RATE)
    assert len(samples) == len(expected)
    assert np.corrcoef(samples, expected)[0, 1] > 0.999
    begin = 0.0 if math.isnan(start_s) else start_s
    assert (sound.start_s + begin, sound.stop_s + begin) == heard


def test_only_these_seconds_are_read_of_a_long_recording(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "long.wav", 1, n_samples=60 * RATE)
    asked = []
    read_segment = mimii.detection.listening.read_segment
    monkeypatch.setattr(
        mimii.detection.listening, "read_segment", lambda *all_: asked.append(all_[-1]) or read_segment(*all_)
    )
    read_sounds([excerpt(path, 30.0)], DEFAULT_ACCESS)
    assert asked == [(28 * RATE, 4 * RATE)]


def test_sounds_of_a_pair_keep_which_one_is_louder(tmp_path):
    paths = [tmp_path / "loud.wav", tmp_path / "quiet.wav"]
    for path, loudness in zip(paths, (8000, 2000), strict=True):
        path.write_bytes(wav_bytes((loudness * np.sin(np.arange(RATE))).astype(np.int16)[:, np.newaxis], RATE))
    levels = [
        np.abs(soundfile.read(io.BytesIO(sound.flac))[0]).max()
        for sound in read_sounds([excerpt(path) for path in paths], DEFAULT_ACCESS)
    ]
    assert levels == pytest.approx([0.9, 0.225], abs=0.01)


# A real browser

_PLAY = """<script>addEventListener("load", () => {
  const button = document.querySelector("button[data-sound]"), sound = document.getElementById(button.dataset.sound);
  const tell = text => document.documentElement.setAttribute("data-heard", text);
  sound.addEventListener("error", () => tell("error"));
  sound.addEventListener("play", () => tell(button.getAttribute("aria-label") + (button.hidden ? " hidden" : "")));
  button.click();
});</script>"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [("--window-size=1100,900",), ("--window-size=1100,900", "--force-dark-mode")], ids=["light", "dark"]
)
def test_a_browser_shows_the_page_and_requests_nothing(page, tmp_path, flags):
    if len(flags) == 1:
        document, requested = look_at(page, tmp_path, *flags)
        assert requested == []
        assert document.count("<svg") == page.count("<svg")
    with Image.open(picture_of(page, tmp_path, *flags)) as image:
        assert image.size == (1100, 900)
        pixels = np.asarray(image.convert("L"))
    assert (pixels.mean() < 128) == (len(flags) > 1)
    assert pixels.std() > 10


@pytest.mark.slow
def test_a_button_plays_the_sound(page, tmp_path):
    document, requested = look_at(
        page.replace("</body>", f"{_PLAY}</body>"), tmp_path, "--autoplay-policy=no-user-gesture-required"
    )
    assert re.search(r'data-heard="Stop the most alarming moment of fan-id_01"', document)
    assert requested == []


_MEASURE = """<script>addEventListener("load", () => {
  document.documentElement.setAttribute("data-wide", document.documentElement.scrollWidth - innerWidth);
});</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1100])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    document, _ = look_at(page.replace("</body>", f"{_MEASURE}</body>"), tmp_path, f"--window-size={width},900")
    assert 'data-wide="0"' in document


@pytest.mark.slow
def test_a_request_of_a_page_would_be_noticed(page, tmp_path):
    elsewhere = "http://elsewhere.test/picture.png"
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    asking = f'<img src="{elsewhere}"></body>'
    _, requested = look_at(open_page.replace("</body>", asking), tmp_path)
    assert requested == [elsewhere]
    document, requested = look_at(page.replace("</body>", asking), tmp_path)
    assert elsewhere in document
