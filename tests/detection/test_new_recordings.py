"""New recordings: the same bits as in the table, the model of their machine, when it was, pieces of long ones."""

import io
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import mimii
from mimii.detection import KINDS, NO_MODEL, ScoreReport, read_models
from mimii.detection.detectors import Model, from_bytes, score, to_bytes
from mimii.detection.new_recordings import Models, choose_model
from mimii.detection.pooling import pool
from mimii.recordings import Clip, Identity, wav_bytes
from mimii.storage import DiskObjects, Place
from tests.helpers.servers import client

pytestmark = pytest.mark.usefixtures("without_page")
SHORT = mimii.FeatureSpec(n_fft=256, hop_length=100, n_mels=8, scale="add_eps")
"""160 frames a second: a window of half a second has 80."""

EVERY = mimii.Training(list(KINDS), epochs=2)
BOTH = mimii.Training(["neighbours", "pca"])
RATE = 16_000


def write(path, samples, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(np.clip(samples, -32768, 32767).astype(np.int16), rate))
    return path


def hum(seed, n_samples=8000, tone=(), n_channels=1):
    """Return a machine's noise, each seed another, with a tone of 3 kHz between some samples."""
    rng = np.random.default_rng(seed)
    samples = rng.uniform(900, 1100) * rng.standard_normal((n_samples, n_channels))
    for start, stop in tone:
        samples[start:stop] += 4000 * np.sin(2 * np.pi * 3000 / RATE * np.arange(start, stop))[:, np.newaxis]
    return samples


def machine(folder, first_seed=0, n_normal=10, n_abnormal=3, **how):
    """Write half seconds of a machine, normal ones and ones with a tone."""
    for index in range(n_normal):
        write(folder / "normal" / f"{index:03d}.wav", hum(first_seed + index, **how))
    for index in range(n_abnormal):
        write(folder / "abnormal" / f"{index:03d}.wav", hum(first_seed + 50 + index, tone=[(0, 8000)], **how))


def detect(folder, spec=SHORT, training=BOTH, name="raw", split="baseline", **how):
    """Make a table of the recordings in a folder, and learn its machines."""
    clips = mimii.find_recordings(folder / name, **how) if name else mimii.find_recordings(**how)
    mimii.featurize(mimii.plan_table(clips, spec, split=split), folder / "t.zarr")
    return mimii.detect(folder / "t.zarr", training=training)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines") / "raw"
    machine(folder / "press7")
    machine(folder / "press8", 100)
    return folder


@pytest.fixture(scope="module")
def report(raw):
    return detect(raw.parent, training=EVERY)


def model_of(report, name):
    return from_bytes((Path(report.output) / "models" / f"{name}.npz").read_bytes())


def scores_of(frame, kinds=KINDS):
    """Return the scores by each kind, of each part of each recording."""
    names = [f"{kind}_score" if index else "score" for index, kind in enumerate(kinds)]
    parts = zip(frame.path, frame.channel, frame.start_s, strict=True)
    return dict(zip(parts, frame[names].itertuples(index=False, name=None), strict=True))


def assert_same_as_table(report, scores, kinds):
    """Compare all that is said of clips that the model has not learned from."""
    tested = report.clips[~report.clips.is_training]
    found, expected = scores_of(scores.clips, kinds), scores_of(tested, kinds)
    assert {part: found[part] for part in expected} == expected
    assert len(expected) > 0
    key = ["path", "channel", "start_s"]
    both = tested.merge(scores.clips, on=key, suffixes=("", "_new"))
    for index, kind in enumerate(kinds):
        for name in ("threshold", "rank", "verdict"):
            one = f"{kind}_{name}" if index else name
            assert both[one].tolist() == both[f"{one}_new"].tolist()
    assert both.machine.tolist() == both.machine_new.tolist()


def test_new_recordings_score_as_they_do_in_the_table(report, raw):
    scores = mimii.score(raw, report)
    assert scores.clips.path.tolist() == sorted(map(str, raw.rglob("*.wav")))
    assert set(scores.clips.status) == {"ok"}
    assert_same_as_table(report, scores, KINDS)


@pytest.mark.parametrize("order", ["backwards", "one at a time", "by threes"])
def test_neither_their_order_nor_their_company_matters(report, raw, order):
    every, clips = scores_of(mimii.score(raw, report).clips), list(mimii.find_recordings(raw))
    size = {"backwards": len(clips), "one at a time": 1, "by threes": 3}[order]
    clips = clips[::-1][: 9 if size < 9 else None]
    groups = [clips[start : start + size] for start in range(0, len(clips), size)]
    found = [mimii.score(group, report).clips for group in groups]
    for group, frame in zip(groups, found, strict=True):
        assert frame.path.tolist() == [clip.path for clip in group]
        of_group = scores_of(frame)
        assert {part: every[part] for part in of_group} == of_group


def test_a_line_says_what_is_known_of_a_clip(report, raw):
    frame = mimii.score(raw / "press7/abnormal", report).clips
    of_kind = ["score", "threshold", "rank", "verdict", "peak", "peak_threshold", "peak_s"]
    others = [f"{kind}_{name}" for kind in list(KINDS)[1:] for name in of_kind]
    before = ["path", "channel", "start_s", "duration_s", "recorded_at", "machine"]
    after = ["peak_hz", "peak_db", "n_events", "n_normal", "alarm", "status", "version"]
    assert list(frame.columns) == [*before, *of_kind, *others, *after]
    assert ScoreReport((), ()).to_csv() == ",".join([*before, *of_kind, *after]) + "\n"
    assert set(frame.machine) == {"press7"}
    assert frame.duration_s.tolist() == [0.5] * 3
    assert frame.verdict.tolist() == ["abnormal"] * 3
    assert frame.alarm.tolist() == [True] * 3
    assert set(frame["rank"]) == {1.0}
    assert frame.n_normal.tolist() == [7] * 3  # 10 but for the 3 that are for testing
    assert abs(frame.peak_hz - 3000).max() < 500
    assert frame.peak_db.min() > 10
    assert str(frame.recorded_at.dtype).startswith("datetime64")


def test_what_was_found_in_a_few_words(report, raw):
    assert repr(mimii.score(raw / "press7/abnormal", report)).startswith("<ScoreReport: 3 clips, 3 alarms, ")


def test_scores_as_csv_keep_every_bit(report, raw):
    scores = mimii.score(raw / "press7", report)
    exact = ("score", "threshold", "peak", "pca_score")
    rows = pd.read_csv(io.StringIO(scores.to_csv()), converters=dict.fromkeys(exact, float))
    for name in exact:
        assert rows[name].tolist() == scores.clips[name].tolist()


def test_another_rule_for_thresholds_is_of_the_scores_of_normal_clips(report, raw):
    normal = model_of(report, "press7").detectors[0].normal_scores
    frame = mimii.score(raw / "press7", report, threshold="quantile 0.5").clips
    assert set(frame.threshold) == {sorted(normal)[3]}
    assert set(mimii.score(raw / "press7", report, threshold="0.125").clips.threshold) == {0.125}
    with pytest.raises(mimii.LearningError, match="a threshold is 'sigma 3'"):
        mimii.score(raw, report, threshold="median 3")


@pytest.mark.parametrize("how", ["a list of sources", "clips", "a list of clips", "both"])
def test_recordings_may_be_sources_or_clips(report, raw, how):
    folders = [raw / "press7/normal", str(raw / "press8/abnormal")]
    found = mimii.find_recordings(*folders)
    kinds = {"a list of sources": folders, "clips": found, "a list of clips": list(found)[::-1]}
    given = kinds | {"both": [folders[1], *mimii.find_recordings(folders[0])]}
    scores = mimii.score(given[how], report).clips
    assert sorted(scores.path) == [clip.path for clip in found]
    every = scores_of(mimii.score(raw, report).clips)
    assert scores_of(scores) == {(path, 0, 0.0): every[path, 0, 0.0] for path in scores.path}


def test_models_may_be_a_report_its_output_or_one_file(report, raw):
    expected = mimii.score(raw / "press8", report).clips
    for models in (report.output, Path(report.output), f"{report.output}/models/press8.npz"):
        pd.testing.assert_frame_equal(mimii.score(raw / "press8", models).clips, expected)
    one = mimii.score(raw / "press8", f"{report.output}/models/press7.npz").clips
    assert set(one.machine) == {"press7"}
    assert not np.isclose(one.score, expected.score).any()


def test_more_clips_than_a_task_takes_are_scored_in_their_order(report, tmp_path):
    paths = [write(tmp_path / f"press7/normal/{seed:03d}.wav", hum(seed, 6000)) for seed in range(200, 270)]
    frame = mimii.score(tmp_path, report).clips
    assert frame.path.tolist() == list(map(str, paths))
    model = model_of(report, "press7")
    for path, found in zip(paths[::23], frame.score[::23], strict=True):
        assert found == score(pool(mimii.log_mel(path, SHORT), model.pooling), model.detectors[0], model.pooling)


def test_a_recording_of_another_rate_is_resampled(report, raw, tmp_path):
    [path] = (raw / "press7/abnormal").glob("000.wav")
    samples, _ = soundfile.read(path)
    twice = np.interp(np.arange(16_000) / 2, np.arange(8000), samples)
    (tmp_path / "press7").mkdir()
    soundfile.write(tmp_path / "press7/a.flac", twice, 2 * RATE, subtype="PCM_24")
    [found] = mimii.score(tmp_path / "press7/a.flac", report).clips.itertuples()
    model = model_of(report, "press7")
    expected = score(
        pool(mimii.log_mel(tmp_path / "press7/a.flac", SHORT), model.pooling), model.detectors[0], model.pooling
    )
    assert (found.status, found.machine, found.verdict) == ("ok", "press7", "abnormal")
    assert found.score == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_scored_has_the_reason_and_no_score(report, raw, tmp_path):
    good = (raw / "press7/normal/000.wav").read_bytes()
    files = {
        "press7/normal/1.wav": good,
        "press7/normal/2.wav": b"",
        "press7/normal/3.wav": good,
        "lathe/normal/4.wav": good,
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    write(tmp_path / "press7/normal/5.wav", hum(1, 50))
    clips = mimii.find_recordings(tmp_path)
    (tmp_path / "press7/normal/3.wav").write_bytes(b"no longer audio")
    found = {Path(line.path).stem: line for line in mimii.score(clips, report).clips.itertuples()}
    assert {stem: line.status == "ok" for stem, line in found.items()} == {"1": True, **dict.fromkeys("2345", False)}
    assert found["2"].status == "empty file"
    assert "not audio" in found["3"].status
    assert found["4"].status == NO_MODEL
    assert "too short" in found["5"].status
    for stem in "2345":
        line = found[stem]
        assert all(map(math.isnan, (line.score, line.threshold, line.rank, line.peak, line.peak_s, line.pca_score)))
        assert (line.verdict, line.alarm, line.n_events, line.n_normal) == ("", False, 0, 0)


def test_a_model_of_other_features_than_the_first_is_named(report, raw, tmp_path):
    shutil.copytree(
        report.output, tmp_path / "models", ignore=lambda folder, names: [] if folder.endswith("models") else names
    )
    shutil.copytree(Path(report.output, "models"), tmp_path / "out/models")
    path = tmp_path / "out/models/press8.npz"
    model = from_bytes(path.read_bytes())
    path.write_bytes(to_bytes(replace(model, pooling=replace(model.pooling, spec=SHORT.changed(n_mels=9)))))
    frame = mimii.score(raw, tmp_path / "out").clips
    assert set(frame.status[frame.machine == "press7"]) == {"ok"}
    [reason] = set(frame.status[frame.machine == "press8"])
    assert "learned from other features than the first model" in reason


def test_no_recordings_and_no_models_are_refused(report, raw, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(mimii.SourceError, match="no recordings there"):
        mimii.score(tmp_path / "empty", report)
    with pytest.raises(mimii.SourceError, match="no recordings there"):
        mimii.score([], report)
    with pytest.raises(mimii.StoreError, match="empty: no model there"):
        mimii.score(raw, tmp_path / "empty")
    with pytest.raises(mimii.StoreError, match=r"missing\.npz.*there is no such model"):
        mimii.score(raw, tmp_path / "missing.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(mimii.StoreError, match=r"torn\.npz: not a model"):
        mimii.score(raw, tmp_path / "torn.npz")


def test_scoring_a_whole_folder_warns_of_nothing(report, raw, caplog):
    with caplog.at_level(logging.WARNING):
        mimii.score(raw, report)
    assert not caplog.records


MODEL = Model("one", None, ())


@pytest.mark.parametrize(
    ("names", "channel", "who", "path", "expected"),
    [
        (("fan-id_00-6dB",), 0, Identity(), "a.wav", "fan-id_00-6dB"),
        (("fan-id_00-6dB",), 0, Identity("pump", "id_02", snr_db=0.0), "a.wav", ""),
        (("fan-id_00-6dB", "fan-id_00-min6dB"), 0, Identity("fan", "id_00", snr_db=-6.0), "", "fan-id_00-min6dB"),
        (("fan-id_00-6dB", "fan-id_00-min6dB"), 0, Identity("fan", "id_00", snr_db=0.0), "", ""),
        (("fan-id_00-6dB", "fan-id_00-min6dB"), 0, Identity("fan", "id_00"), "", ""),
        (("fan-id_00-6dB", "fan-id_02-6dB"), 0, Identity("fan", "id_00"), "", "fan-id_00-6dB"),
        (("fan-id_00-6dB", "fan-id_02-6dB"), 0, Identity("fan", "id_00", snr_db=0.0), "", ""),
        (("fan-id_00-6dB", "fan-id_02-6dB"), 0, Identity("pump", "id_00"), "", ""),
        (("press7", "press8"), 0, Identity("", "press8"), "", "press8"),
        (("press7", "press8"), 0, Identity(), "night/press8/2026/a.wav", "press8"),
        (("press7", "press8"), 0, Identity(), "press7/press8/press9/a.wav", "press8"),
        (("press7", "press8"), 0, Identity(), "night/press8.wav", ""),
        (("press7-ch0", "press7-ch1"), 1, Identity("", "press7"), "", "press7-ch1"),
        (("press7-ch0", "press7-ch1"), 1, Identity(), "press7/a.wav", "press7-ch1"),
        (("press7-ch0", "press7-ch1"), 2, Identity("", "press7"), "", ""),
        (("fan-id_00-6dB-ch0", "fan-id_00-6dB-ch1"), 1, Identity("fan", "id_00"), "", "fan-id_00-6dB-ch1"),
        (("all-ch0", "all-ch1"), 1, Identity(), "night/a.wav", "all-ch1"),
        (("all", "press7"), 0, Identity(), "night/a.wav", "all"),
        (("all", "press7"), 0, Identity(), "press7/a.wav", "press7"),
        (("all", "press7"), 0, Identity("", "press9"), "press7/a.wav", ""),
        (("fan-id_00", "pump-id_00"), 0, Identity("", "fan"), "", ""),
    ],
)
def test_the_model_of_a_recording(names, channel, who, path, expected):
    models = Models(None, {name: f"models/{name}.npz" for name in names}, MODEL)
    spec = SHORT.changed(channel="all") if any("-ch" in name for name in names) else SHORT
    clip = Clip(path, Place(path), who, channel=channel)
    assert choose_model(clip, models, spec) == (f"models/{expected}.npz" if expected else "")


def test_machines_without_a_name_have_a_model_for_each_channel(tmp_path):
    for seed in range(6):
        write(tmp_path / "raw" / f"{seed}.wav", hum(seed, n_channels=2))
    report = detect(tmp_path, SHORT.changed(channel="all"), split="none")
    assert report.machines.machine.unique().tolist() == ["all-ch0", "all-ch1"]
    frame = mimii.score(tmp_path / "raw", report).clips
    assert frame.machine.tolist() == ["all-ch0", "all-ch1"] * 6
    assert set(frame.status) == {"ok"}


@pytest.fixture(scope="module")
def microphones(tmp_path_factory):
    """Learn a machine with two microphones, of which the second alone hears the fault."""
    folder = tmp_path_factory.mktemp("microphones")
    for seed in range(24):
        samples, is_abnormal = hum(seed, n_channels=2), seed % 4 == 3
        samples[:, 1] += hum(seed, tone=[(0, 8000)])[:, 0] - hum(seed)[:, 0] if is_abnormal else 0
        label = "abnormal" if is_abnormal else "normal"
        write(folder / "raw" / f"press{7 + seed // 12}" / label / f"{seed}.wav", samples)
    return folder, detect(folder, SHORT.changed(channel="all"))


def test_each_channel_of_a_machine_has_a_model(microphones):
    _, report = microphones
    assert report.machines.machine.unique().tolist() == ["press7-ch0", "press7-ch1", "press8-ch0", "press8-ch1"]
    best = mimii.detection.best_channels(report.results)
    assert [(one.machine, one.channel, one.auc) for one in best] == [("press7", 1, 1), ("press8", 1, 1)]
    assert all(one.lowest_auc < 1 for one in best)


def test_channels_are_scored_by_their_models(microphones, tmp_path):
    folder, report = microphones
    scores = mimii.score(folder / "raw", report)
    assert_same_as_table(report, scores, ["neighbours", "pca"])
    (tmp_path / "press7/2026-11-26").mkdir(parents=True)
    shutil.copy(folder / "raw/press7/abnormal/3.wav", tmp_path / "press7/2026-11-26/a.wav")
    frame = mimii.score(tmp_path, report).clips
    assert frame.machine.tolist() == ["press7-ch0", "press7-ch1"]
    assert frame.verdict.tolist()[1] == "abnormal"


@pytest.mark.parametrize(
    "changes",
    [
        *({"dtype": "float16"}, {"stride": 2}, {"stride": 4, "frames": 3}, {"scale": "ref_max"}, {"channel": "mean"}),
        *({"stride": 8, "frames": 20, "dtype": "float16"}, {"scale": "ref_max", "stride": 7, "dtype": "float16"}),
    ],
    ids=str,
)
def test_other_features_score_the_same_bits_also_of_long_recordings(tmp_path, changes):
    """Clips of 2 to 9 times the length of the training clips are cut into pieces in the table, and so are new ones."""
    machine(tmp_path / "raw/press7", n_abnormal=1)
    for index, n_samples in enumerate((11_900, 12_600, 20_000, 47_013, 72_000)):
        write(tmp_path / "raw/press7/abnormal" / f"long{index}.wav", hum(70 + index, n_samples, [(9000, 10_000)]))
    report = detect(tmp_path, SHORT.changed(**changes), EVERY)
    assert_same_as_table(report, mimii.score(tmp_path / "raw", report), KINDS)


def test_a_recording_is_long_beside_the_longest_training_clip(tmp_path):
    machine(tmp_path / "raw/press7", n_abnormal=0)
    write(tmp_path / "raw/press7/normal/long.wav", hum(60, 32_000))
    model = model_of(detect(tmp_path, split="none"), "press7")
    assert model.pooling.most_frames == len(mimii.log_mel(tmp_path / "raw/press7/normal/long.wav", SHORT))


def test_a_recording_much_longer_than_the_training_clips_scores_as_its_pieces(report, tmp_path):
    write(tmp_path / "press7" / "a.wav", hum(80, 40_000))
    frame = mimii.score(tmp_path, report).clips
    model = model_of(report, "press7")
    pooled = pool(mimii.log_mel(tmp_path / "press7/a.wav", SHORT), model.pooling)
    assert len(pooled.pieces) == 5
    scores = {one.kind: score(pooled, one, model.pooling) for one in model.detectors}
    assert scores_of(frame) == {(frame.path[0], 0, 0.0): tuple(scores[kind] for kind in KINDS)}


def test_a_layout_comes_from_the_models(tmp_path):
    for seed in range(12):
        label = "ng" if seed % 4 == 3 else "ok"
        for machine_id in ("m1", "m2"):
            tone = [(0, 8000)] if label == "ng" else []
            write(
                tmp_path / f"raw/hall/line-{machine_id}/{seed}_{label}.wav",
                hum(seed + 20 * (machine_id == "m2"), tone=tone),
            )
    report = detect(tmp_path, layout="{site}/line-{machine_id}/*_{label}.wav")
    assert report.machines.machine.unique().tolist() == ["m1", "m2"]
    assert report.machines.auc.min() == 1
    scores = mimii.score(tmp_path / "raw", report)
    assert set(scores.clips.status) == {"ok"}
    assert_same_as_table(report, scores, ["neighbours", "pca"])
    other = mimii.score(tmp_path / "raw", report, layout="{machine_id}/{site}/*.wav").clips
    assert set(other.status) == {NO_MODEL}


def test_what_is_assumed_comes_from_the_models(tmp_path):
    for seed in range(8):
        write(tmp_path / f"raw/m{seed % 2}/{seed}.wav", hum(seed))
    report = detect(tmp_path, assume="normal", split="none")
    assert report.machines.machine.unique().tolist() == ["m0", "m1"]
    assert mimii.score(tmp_path / "raw", report).clips.machine.tolist() == ["m0"] * 4 + ["m1"] * 4
    write(tmp_path / "night/m1/2026-11-26/9.wav", hum(9))  # its folder is assumed to be a machine; one above it is one
    write(tmp_path / "night/spare/8.wav", hum(8))
    scores = mimii.score(tmp_path / "night", report).clips
    assert [scores.machine[0], *scores.status] == ["m1", "ok", NO_MODEL]


def test_recordings_may_be_in_lists(tmp_path):
    lines = ["path,machine_type,machine_id,label,recorded_at"]
    for seed in range(12):
        label = "abnormal" if seed % 3 == 2 else "normal"
        write(tmp_path / f"wav/{seed}.wav", hum(seed, tone=[(0, 8000)] if label == "abnormal" else []))
        lines.append(f"wav/{seed}.wav,fan,{'AB'[seed % 2]},{label},2026-11-26T07:00:{seed:02d}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    report = detect(tmp_path, name="", lists=tmp_path / "list.csv")
    scores = mimii.score([], report, lists=tmp_path / "list.csv")
    assert set(scores.clips.machine) == {"fan-A", "fan-B"}
    assert scores.clips.recorded_at.dt.second.tolist() == [int(Path(path).stem) for path in scores.clips.path]
    assert report.clips.recorded_at.dt.second.tolist() == [int(Path(path).stem) for path in report.clips.path]
    assert "2026-11-26T07:00:03" in scores.to_csv()
    assert_same_as_table(report, scores, ["neighbours", "pca"])
    without = mimii.score(tmp_path / "wav", report).clips
    assert set(without.status) == {NO_MODEL}


def test_segments_of_a_table_are_those_of_new_recordings(tmp_path):
    for seed in range(5):
        write(tmp_path / f"raw/press7/{'abnormal' if seed == 4 else 'normal'}/{seed}.wav", hum(seed, 20_000))
    report = detect(tmp_path, SHORT.changed(segment=0.5, overlap=0.25), EVERY)
    scores = mimii.score(tmp_path / "raw", report)
    assert scores.clips.start_s.tolist()[:4] == [0, 0.25, 0.5, 0.75]
    assert_same_as_table(report, scores, KINDS)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory):
    """Return 10 s with tones at 1.1 to 1.4 s, across 4 s, at 4.8 s, and at 8 s."""
    tones = [(17_600, 22_400), (62_000, 66_000), (76_800, 78_000), (128_000, 132_000)]
    return write(tmp_path_factory.mktemp("long") / "press7/hour.wav", hum(300, 160_000, tones))


@pytest.mark.parametrize("segment", [None, 1.0, 2.0, 2.5])
def test_events_are_in_seconds_of_the_recording_and_joined_across_segments(report, long_recording, segment):
    scores = mimii.score(long_recording, report, segment=segment)
    events = scores.events
    assert list(events.columns) == ["recording", "machine", "channel", "start_s", "stop_s", "peak", "peak_s"]
    assert len(events) == 3
    for event, (start, stop) in zip(events.itertuples(), [(1.1, 1.4), (3.875, 4.875), (8, 8.25)], strict=True):
        assert start - 0.76 < event.start_s <= start
        assert stop <= event.stop_s < stop + 0.76
        assert event.start_s < event.peak_s < event.stop_s
        assert (event.recording, event.machine, event.channel) == (str(long_recording), "press7", 0)
    frame = scores.clips
    assert frame.start_s.tolist() == [0.0] if segment is None else np.arange(0, 10, segment).tolist()
    highest = frame.loc[frame.peak.idxmax()]
    assert highest.peak == events.peak.max()
    assert highest.peak_s == events.peak_s[events.peak.idxmax()]
    for line in frame.itertuples():
        assert line.start_s <= line.peak_s <= line.start_s + line.duration_s + 0.01
    assert frame.alarm.tolist() == [
        count > 0 or verdict == "abnormal" for count, verdict in zip(frame.n_events, frame.verdict, strict=True)
    ]


def test_an_event_is_an_alarm_whatever_the_whole_recording_counts_as(report, long_recording):
    frame = mimii.score(long_recording, report, segment=1.0, threshold="1e9").clips
    assert set(frame.verdict) == {"normal"}
    assert frame.alarm.tolist() == (frame.n_events > 0).tolist()
    assert 0 < frame.alarm.sum() < 10


def test_overlapping_segments_have_each_event_once(report, long_recording):
    scores = mimii.score(long_recording, report, segment=2.0, overlap=1.0)
    assert len(scores.events) == 3
    assert scores.clips.n_events.sum() > 3


def test_events_of_channels_are_apart(microphones, tmp_path):
    _, report = microphones
    samples = hum(300, 64_000, n_channels=2)
    samples[:, 1] += (hum(300, 64_000, [(30_000, 40_000)]) - hum(300, 64_000))[:, 0]
    write(tmp_path / "press7/a.wav", samples)
    events = mimii.score(tmp_path, report, segment=1.0).events
    assert events.channel.tolist() == [1]
    assert events.machine.tolist() == ["press7-ch1"]


def test_segments_that_make_no_sense_are_refused(report, raw):
    with pytest.raises(ValueError, match=r"overlap 1.0 s needs segment"):
        mimii.score(raw, report, overlap=1.0)


def test_of_one_training_clip_scores_are_unknown_and_no_alarm(tmp_path):
    write(tmp_path / "raw/press7/normal/a.wav", hum(1))
    write(tmp_path / "raw/press7/abnormal/b.wav", hum(2, tone=[(0, 8000)]))
    report = detect(tmp_path, training=EVERY, split="none")
    assert report.clips.verdict.tolist() == ["unknown"]
    assert math.isinf(report.clips.threshold[0])
    frame = mimii.score(tmp_path / "raw", report).clips
    assert frame.verdict.tolist() == ["unknown"] * 2
    assert frame.alarm.tolist() == [False] * 2
    assert frame["rank"].isna().all()


def test_a_damaged_model_is_named_and_stops_no_other_machine(report, raw, tmp_path):
    shutil.copytree(Path(report.output, "models"), tmp_path / "out/models")
    (tmp_path / "out/models/press8.npz").write_bytes(b"PK")
    found = mimii.score(raw, tmp_path / "out")
    status = dict(zip(found.clips.machine, found.clips.status, strict=True))
    assert status["press7"] == "ok"
    assert "press8.npz: not a model of jobs.detect" in status["press8"]
    (tmp_path / "out/models/press7.npz").write_bytes(b"PK")
    with pytest.raises(mimii.StoreError, match=r"not a model of jobs\.detect"):
        mimii.score(raw, tmp_path / "out")


def test_models_are_those_at_a_place(report):
    models = read_models(report.output)
    assert models.keys == {name: f"models/{name}.npz" for name in ("press7", "press8")}
    assert models.first.spec == SHORT
    assert models.root == DiskObjects(report.output)


def test_recordings_table_models_and_scores_may_be_on_s3(moto, use, report, raw):
    use(moto)
    client(moto).create_bucket(Bucket="detect")
    for path in (raw.parent / "t.zarr").rglob("*"):
        if path.is_file():
            key = f"t.zarr/{path.relative_to(raw.parent / 't.zarr')}"
            client(moto).put_object(Bucket="detect", Key=key, Body=path.read_bytes())
    for path in raw.glob("press7/*/00[0-2].wav"):
        client(moto).put_object(Bucket="detect", Key=f"raw/{path.relative_to(raw)}", Body=path.read_bytes())
    far = mimii.detect("s3://detect/t.zarr", training=EVERY)
    assert far.output == "s3://detect/detect"
    pd.testing.assert_frame_equal(far.clips, report.clips)
    found = mimii.score("s3://detect/raw", far, output="s3://detect/scores").clips
    near = scores_of(mimii.score(raw, report).clips)
    assert len(found) == 6
    for line, values in scores_of(found).items():
        assert values == near[line[0].replace("s3://detect/raw", str(raw)), 0, 0.0]
    assert mimii.score("s3://detect/raw", far, output="s3://detect/scores", update=True).lines == ()


def test_a_single_model_scores_whatever_comes_and_that_of_a_channel_its_channel_alone():
    one = Models(None, {"press7-ch2": "press7-ch2.npz"}, MODEL, is_one=True)
    spec = SHORT.changed(channel="all")
    clips = [Clip("a.wav", Place("a.wav"), Identity("pump", "id_02"), channel=channel) for channel in range(4)]
    assert [choose_model(clip, one, spec) for clip in clips] == ["", "", "press7-ch2.npz", ""]


def test_a_model_of_other_detectors_is_not_applied(report, raw, tmp_path):
    shutil.copytree(Path(report.output, "models"), tmp_path / "out/models")
    model = model_of(report, "press8")
    (tmp_path / "out/models/press8.npz").write_bytes(to_bytes(replace(model, detectors=model.detectors[:1])))
    found = mimii.score(raw, tmp_path / "out").clips
    assert set(found.status[found.machine == "press7"]) == {"ok"}
    assert set(found.status[found.machine == "press8"]) == {
        "its model has other detectors than the first model here; name it alone"
    }


def test_clips_much_shorter_than_those_learned_from_have_no_verdict_and_may_have_events(report, tmp_path):
    write(tmp_path / "press7/normal/0.wav", hum(300, 2000))
    write(tmp_path / "press7/normal/1.wav", hum(301, 6000))
    found = mimii.score(tmp_path, report).clips
    assert found.verdict.tolist() == ["unknown", "normal"]
    assert found.score.isna().tolist() == [True, False]
    assert found["rank"].isna().tolist() == [True, False]
    assert set(found.status) == {"ok"}
