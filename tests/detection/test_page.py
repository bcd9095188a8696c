"""The page of results: it loads nothing, escapes names, shows the hardest clips; and what a real browser shows."""

import base64
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image

from mimii.detection.learning import Training
from mimii.detection.listening import Sound, read_sounds
from mimii.detection.machines import Machine
from mimii.detection.page import find_hardest, write_page
from mimii.detection.study import Outcome
from mimii.features.sndfile import encode_flac
from mimii.features.spec import FeatureSpec
from mimii.recordings import Part
from mimii.storage.access import DEFAULT_ACCESS
from mimii.table import Columns, RowSpan
from tests.helpers.browser import look_at
from tests.helpers.recordings import noise, write_clip

SPEC = FeatureSpec()
N_ROWS = 309
PATH = """a <script>alert("1")</script> & 'b'.wav"""


def machine(number, labels, scores, threshold=1.0):
    name = f"fan-id_{number:02d}-6dB"
    clips = tuple(range(10 * number, 10 * number + len(labels)))
    spans = tuple(RowSpan(clip, 0, N_ROWS, clip * N_ROWS) for clip in clips)
    learned = Machine(name, "fan", f"id_{number:02d}", 6.0, 0, spans, spans, tuple(labels))
    return learned, Outcome(name, 7, (0.5, 0.6), threshold, clips, tuple(labels), tuple(scores))


def columns(n_clips):
    strings = {
        name: np.array([""] * n_clips, np.dtypes.StringDType())
        for name in ("machine_type", "machine_id", "split", "status")
    }
    return Columns(
        attributes={"spec": SPEC.as_dict(), "shard_rows": 1000},
        channel=np.zeros(n_clips, np.int16),
        start_s=np.zeros(n_clips),
        duration_s=np.ones(n_clips),
        path=np.array([f"{index} {PATH}" for index in range(n_clips)], np.dtypes.StringDType()),
        **strings,
        number=np.zeros(n_clips, np.int32),
        snr_db=np.zeros(n_clips, np.float32),
        label=np.zeros(n_clips, np.int8),
        first_row=np.zeros(n_clips, np.int64),
        n_rows=np.zeros(n_clips, np.int32),
        feature_mean=np.zeros(320),
        feature_std=np.ones(320),
    )


def some_rows(clip):
    return np.random.default_rng(clip).uniform(-60, 0, (N_ROWS, 320)).astype("f4")


def some_sound(clip):
    return Sound(encode_flac(noise(clip)[:, 0] / np.float32(32768), 16_000))


def page_of(results, sound=None):
    shown = find_hardest(results)
    places = {one.outcome.clips[place] for one in shown for place in one.clips}
    clips = {clip: (some_rows(clip), sound or some_sound(clip)) for clip in places}
    n_clips = 1 + max(clip for _, outcome in results for clip in outcome.clips)
    return write_page(columns(n_clips), Training(), results, shown, clips).decode()


@pytest.fixture(scope="module")
def results():
    return [machine(0, [0, 0, 1, 1], [0.2, 1.5, 0.7, 3.0]), machine(1, [0, 0, 1, 1], [0.1, 0.2, 2.0, 4.0])]


@pytest.fixture(scope="module")
def page(results):
    return page_of(results)


class Reader(HTMLParser):
    """Collects the names of elements, and URLs."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.references = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.references += [value for name, value in attributes if name in {"src", "href", "xlink:href", "action"}]


def test_the_page_refers_to_nothing_outside(page):
    found = Reader(page)
    assert all(reference.startswith(("data:", "#")) for reference in found.references)
    assert sum(reference.startswith("data:") for reference in found.references) == 8
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.elements)
    assert not re.search(r"url\((?!#)|@import", page)


def test_the_hardest_clips_are_the_lowest_abnormal_and_the_highest_normal_score(results):
    hardest = find_hardest(results)
    assert [one.machine.name for one in hardest] == ["fan-id_00-6dB", "fan-id_01-6dB"]
    assert [one.clips for one in hardest] == [(2, 1), (2, 1)]


def test_the_page_says_which_of_them_were_misjudged(page):
    assert [page.count(f"<b>{title}: ") for title in ("Missed", "False alarm", "Found", "No alarm")] == [1, 1, 1, 1]


def test_the_worst_machines_are_shown(monkeypatch):
    monkeypatch.setattr("mimii.detection.page.MOST_SHOWN", 3)
    results = [machine(number, [0, 1], [1.0, number / 10]) for number in range(6)]
    results.append(machine(90, [], []))
    shown = find_hardest(results)
    assert [one.machine.name for one in shown] == ["fan-id_00-6dB", "fan-id_01-6dB", "fan-id_02-6dB"]
    assert "Below are the 3 machines with the lowest AUC." in page_of(results)


@pytest.mark.parametrize("label", [0, 1])
def test_a_machine_with_clips_of_one_label_has_one_example_and_no_curve(label):
    text = page_of([machine(0, [label, label], [0.2, 1.5])])
    assert text.count("<figure>") == 2
    assert "AUC nan" not in text


def test_paths_of_clips_are_escaped(page):
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; &#39;b&#39;.wav" in page


def data_of(page, kind):
    return [base64.b64decode(data) for data in re.findall(rf'src="data:{kind};base64,([^"]+)"', page)]


def test_each_example_has_a_picture_and_sound(page):
    pictures, sounds = data_of(page, "image/png"), data_of(page, "audio/flac")
    assert len(pictures) == len(sounds) == 4
    for data in pictures:
        assert Image.open(io.BytesIO(data)).size[0] > 400
    samples, sample_rate = soundfile.read(io.BytesIO(sounds[0]))
    assert sample_rate == 16_000
    assert np.corrcoef(samples, noise(2)[:, 0])[0, 1] > 0.9999
    assert abs(samples).max() == pytest.approx(0.9, abs=1e-3)


def test_the_page_says_why_there_is_no_sound(results):
    text = page_of(results, Sound(b"", "no such <file>"))
    assert "no sound: no such &lt;file&gt;" in text
    assert "<audio" not in text


def test_the_same_results_make_the_same_page(results, page):
    assert page_of(results) == page


def test_recordings_become_sound_or_a_problem(tmp_path):
    there = write_clip(tmp_path / "there.wav", 5, n_channels=2)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "cut.wav").write_bytes(there.read_bytes()[:200])
    paths = [str(tmp_path / name) for name in ("there.wav", "missing.wav", "empty.wav", "cut.wav", "no.zip/a.wav")]
    found = read_sounds([(path, Part(1, 0.0, math.nan)) for path in paths], DEFAULT_ACCESS)
    samples, _ = soundfile.read(io.BytesIO(found[0].flac))
    assert np.corrcoef(samples, noise(5, n_channels=2)[:, 1])[0, 1] > 0.9999
    assert all(sound.problem and not sound.flac for sound in found[1:])


def test_of_a_recording_too_long_for_a_page_a_segment_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mimii.detection.listening._MOST_SAMPLES", 1 << 20)
    path = write_clip(tmp_path / "long.wav", 1, n_samples=(1 << 20) + 16_000)
    whole, cut = read_sounds([(str(path), Part(0, *when)) for when in ((0.0, math.nan), (2.5, 0.5))], DEFAULT_ACCESS)
    assert whole == Sound(b"", "67 s, too long for a page")
    samples, _ = soundfile.read(io.BytesIO(cut.flac))
    expected, _ = soundfile.read(path, start=40_000, frames=8000)
    assert np.corrcoef(samples, expected)[0, 1] > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--force-dark-mode",)], ids=["light", "dark"])
def test_a_browser_shows_the_page_and_requests_nothing(page, tmp_path, flags):
    document, requested, picture = look_at(page, tmp_path, "--window-size=1100,900", *flags)
    assert requested == []
    assert document.count("<svg") == 4
    with Image.open(picture) as image:
        assert image.size == (1100, 900)
        pixels = np.asarray(image.convert("L"))
    assert (pixels.mean() < 128) == bool(flags)
    assert pixels.std() > 10


@pytest.mark.slow
def test_a_request_of_a_page_would_be_noticed(page, tmp_path):
    elsewhere = "http://elsewhere.test/picture.png"
    _, requested, _ = look_at(page.replace("</body>", f'<img src="{elsewhere}"></body>'), tmp_path)
    assert requested == [elsewhere]
