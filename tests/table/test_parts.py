"""Tables whose clips are channels and segments of recordings of any rate: right, resumable and growing."""

import dataclasses
import os
import warnings
import zipfile

import numpy as np
import pytest
import xarray

import mimii
from mimii.engine import Run
from mimii.storage import s3
from tests.helpers import oracle
from tests.helpers.archives import pack_folder
from tests.helpers.commands import assert_same_table, contents, open_table
from tests.helpers.odd_files import mp3, noise, samples_of
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client

SPECS = {
    "all channels": {"channel": "all"},
    "mean": {"channel": "mean"},
    "segments": {"segment": 0.7, "channel": 1},
    "all channels of segments that overlap": {"segment": 0.5, "overlap": 0.2, "channel": "all"},
    "resampled": {"sample_rate": 22_050},
    "resampled segments of all channels": {"sample_rate": 8000, "segment": 0.6, "channel": "all"},
    "band": {"fmin": 100.0, "fmax": 5000.0, "win_length": 300},
    "stride": {"stride": 3},
    "stride beyond the frames": {"stride": 7, "channel": "all"},
    "float16": {"dtype": "float16"},
    "float16 stride": {"dtype": "float16", "stride": 2, "segment": 0.9},
}
PRESET = mimii.FeatureSpec.preset("dcase", n_fft=512, hop_length=32, n_mels=64)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Make recordings of other lengths, rates and channels."""
    folder = tmp_path_factory.mktemp("parts") / "raw"
    for seed, (n_samples, n_channels, rate) in enumerate(
        [(16_000, 2, 16_000), (33_000, 3, 16_000), (20_001, 2, 16_000), (44_100, 2, 44_100), (9000, 2, 8000)]
    ):
        write_clip(folder / f"press{seed % 2}" / "normal" / f"{seed:08d}.wav", seed, n_samples, n_channels, rate)
    return folder


def table_of(folder, output, changes=None, split="none", shard_bytes=1 << 20, **how) -> Run:
    spec = PRESET.changed(**(changes or {}))
    plan = mimii.plan_table(
        mimii.find_recordings(folder), spec, sample_rate=spec.sample_rate, split=split, shard_bytes=shard_bytes
    )
    return mimii.featurize(plan, output, **how)


@pytest.mark.parametrize("name", SPECS)
def test_rows_and_statistics_are_librosas(raw, tmp_path, name):
    run = table_of(raw, tmp_path / "t", SPECS[name])
    assert not run.bad
    assert len(run.records) > (0 if "stride" in name or "float16" in name else 3)
    spec = PRESET.changed(**SPECS[name])
    n_channels = 11 if spec.channel == "all" else 5
    table = open_table(tmp_path / "t")
    n_checked = oracle.check_table(table, spec, atol=0.07 if spec.dtype == "float16" else 1e-3)
    assert n_checked == table.sizes["clip"] >= n_channels
    assert table.features.dtype == spec.dtype
    rows = table.features.values.astype(np.float64)
    np.testing.assert_allclose(table.feature_mean, rows.mean(axis=0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(table.feature_std, rows.std(axis=0), rtol=0, atol=1e-4)
    verdict = mimii.verify(tmp_path / "t", str(raw), sample=1000)
    assert verdict.is_right, verdict


def test_float16_is_rounded_to_nearest(raw, tmp_path):
    table_of(raw, tmp_path / "32")
    table_of(raw, tmp_path / "16", {"dtype": "float16"})
    exact, rounded = (open_table(tmp_path / name).features.values for name in ("32", "16"))
    np.testing.assert_array_equal(rounded, exact.astype(np.float16))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("all channels of segments that overlap", zipfile.ZIP_STORED),
        ("resampled segments of all channels", zipfile.ZIP_DEFLATED),
    ],
)
def test_archives_and_objects_are_as_folders(raw, tmp_path, name, method, moto, use):
    archive = pack_folder(tmp_path / "packed" / "raw.zip", raw, method)
    use(moto)
    bucket = f"parts-{method}-{len(name)}"
    client(moto).create_bucket(Bucket=bucket)
    client(moto).upload_file(str(archive), bucket, "raw.zip")
    for path in raw.rglob("*.wav"):
        client(moto).upload_file(str(path), bucket, f"raw/{path.relative_to(raw)}")
    table_of(raw, tmp_path / "near", SPECS[name])
    expected = open_table(tmp_path / "near")
    for index, source in enumerate((archive, f"s3://{bucket}/raw.zip", f"s3://{bucket}/raw")):
        table_of(source, tmp_path / f"{index}", SPECS[name])
        found = open_table(tmp_path / f"{index}")
        np.testing.assert_array_equal(found.features.values, expected.features.values)
        np.testing.assert_array_equal(found.start_s.values, expected.start_s.values)
        np.testing.assert_array_equal(found.channel.values, expected.channel.values)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_segment_on_s3_fetches_its_bytes_alone(tmp_path, moto, use, monkeypatch, is_packed):
    n_bytes = 2 * 60 * 16_000
    write_clip(tmp_path / "raw" / "long.wav", 1, n_bytes // 2)
    archive = pack_folder(tmp_path / "raw.zip", tmp_path / "raw", zipfile.ZIP_STORED)
    use(moto)
    bucket = f"ranges-{int(is_packed)}"
    client(moto).create_bucket(Bucket=bucket)
    key = "raw.zip" if is_packed else "long.wav"
    client(moto).upload_file(str(archive if is_packed else tmp_path / "raw/long.wav"), bucket, key)
    fetched = []
    read = s3.read

    def counting(url, start, stop, access):
        fetched.append(stop - start)
        return read(url, start, stop, access)

    monkeypatch.setattr(s3, "read", counting)
    clips = mimii.find_recordings(f"s3://{bucket}/{key}")
    plan = mimii.plan_table(clips, PRESET, segment=2.0, split="none", shard_bytes=1 << 20)
    fetched.clear()
    mimii.featurize(plan, tmp_path / "out")
    assert plan.rows.n_shards > 5
    assert len(fetched) <= 30 + 2 * plan.rows.n_shards
    assert sum(fetched) < n_bytes + (1 << 17) * plan.rows.n_shards
    assert not open_table(tmp_path / "out").features.isnull().any()


def test_xarray_has_times_and_parts_without_a_warning(raw, tmp_path):
    listed = tmp_path / "list.csv"
    path = next(raw.rglob("*.wav"))
    listed.write_text(f"path,recorded_at,load_kw,line,domain\n{path},2026-05-01T06:30:00+02:00,3.5,A,source\n")
    plan = mimii.plan_table(mimii.find_recordings(raw, lists=listed), PRESET, sample_rate=16_000, split="none")
    mimii.featurize(plan, tmp_path / "t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = xarray.open_zarr(tmp_path / "t").load()
    [clip] = np.flatnonzero(table.path.values == str(path))
    assert table.recorded_at.values[clip] == np.datetime64("2026-05-01T04:30:00")
    assert np.isnat(table.recorded_at.values).sum() == 4
    assert (table.load_kw.values[clip], table.line.values[clip], table.domain.values[clip]) == (3.5, "A", "source")
    assert np.isnan(table.load_kw.values).sum() == 4
    assert sorted(table.line.values) == ["", "", "", "", "A"]
    assert (table.start_s == 0).all()
    assert sorted(table.duration_s.values.tolist()) == [1.0, 1.0, 9000 / 8000, 20_001 / 16_000, 33_000 / 16_000]
    assert mimii.verify(tmp_path / "t").is_right


# Growing


@pytest.mark.parametrize(
    "name", ["all channels of segments that overlap", "float16 stride", "stride beyond the frames"]
)
def test_a_table_grows_to_the_bytes_of_one_made_at_once(raw, tmp_path, name):
    """Clips come behind those that are there: the same as a table made of them in this order, by its rows."""
    table_of(raw / "press0", tmp_path / "grown", SPECS[name])
    kept = contents(tmp_path / "grown")
    table_of(raw, tmp_path / "grown", SPECS[name], update=True)
    spec = PRESET.changed(**SPECS[name])
    table = open_table(tmp_path / "grown")
    assert oracle.check_table(table, spec, atol=0.07 if spec.dtype == "float16" else 1e-3) == table.sizes["clip"]
    verdict = mimii.verify(tmp_path / "grown", str(raw), sample=1000)
    assert verdict.is_right, verdict
    before = {key: data for key, data in kept.items() if key.startswith("features/c.")}
    now = contents(tmp_path / "grown")
    changed = [key for key, data in before.items() if now[key] != data]
    assert len(changed) <= 1  # the last one
    again = table_of(raw, tmp_path / "grown", SPECS[name], update=True)
    assert not again.computed


def test_a_recording_that_goes_on_gets_its_new_segments_and_a_new_last_one(tmp_path):
    path = write_clip(tmp_path / "raw" / "line.wav", 1, 25_000)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5})
    assert open_table(tmp_path / "t").sizes["clip"] == 4
    write_clip(path, 1, 40_000)  # noise of one seed goes on, but at another level: all is new
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True)
    table = open_table(tmp_path / "t")
    assert table.status.values.tolist().count("replaced") == 1  # the rest of 1,000 samples
    assert table.start_s.values[table.status.values == "ok"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert oracle.check_table(table, PRESET.changed(segment=0.5)) == 5
    write_clip(path, 1, 17_000)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True)
    statuses = open_table(tmp_path / "t").status.values.tolist()
    assert (statuses.count("ok"), statuses.count("replaced")) == (3, 4)
    assert oracle.check_table(open_table(tmp_path / "t"), PRESET.changed(segment=0.5)) == 3
    assert mimii.verify(tmp_path / "t", str(tmp_path / "raw")).is_right


def test_a_recording_that_becomes_bad_is_bad_in_all_of_its_parts_and_good_again_later(tmp_path):
    path = write_clip(tmp_path / "raw" / "line.wav", 1, 25_000)
    write_clip(tmp_path / "raw" / "other.wav", 2, 25_000)
    good = path.read_bytes()
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5})
    path.write_bytes(b"no longer audio" * 100)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True, prune=True)
    table = open_table(tmp_path / "t")
    assert [status == "ok" for status in table.status.values] == [False] * 4 + [True] * 4
    assert all("not audio" in status for status in table.status.values[:4])
    assert table.features.values[np.isin(table.row_clip.values, range(4))].size
    assert np.isnan(table.features.values[np.isin(table.row_clip.values, range(4))]).all()
    assert mimii.verify(tmp_path / "t", str(tmp_path / "raw")).is_right
    path.write_bytes(good)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True)
    assert oracle.check_table(open_table(tmp_path / "t"), PRESET.changed(segment=0.5)) == 8


def test_a_recording_that_cannot_be_read_for_the_moment_keeps_all_of_its_parts(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "raw" / "line.wav", 1, 25_000)
    write_clip(tmp_path / "raw" / "other.wav", 2, 25_000)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5})
    before = open_table(tmp_path / "t").load()
    clips = mimii.find_recordings(tmp_path / "raw")
    problem = "cannot be read: Input/output error"
    broken = [dataclasses.replace(one, problem=problem, header=None) if one.path == str(path) else one for one in clips]
    monkeypatch.setattr(mimii, "find_recordings", lambda _: mimii.Recordings(broken, clips.sources))
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True, prune=True)
    xarray.testing.assert_identical(open_table(tmp_path / "t").load().drop_attrs(), before.drop_attrs())


def test_a_table_of_other_channels_or_segments_does_not_grow(raw, tmp_path):
    table_of(raw, tmp_path / "t", {"segment": 0.5})
    for changes, difference in (
        ({"segment": 0.6}, "segment: 0.5 there, 0.6 now"),
        ({"segment": 0.5, "channel": "all"}, "channel: 0 there, all now"),
        ({}, "segment: 0.5 there, None now"),
    ):
        with pytest.raises(mimii.StoreError, match=difference):
            table_of(raw, tmp_path / "t", changes, update=True)


def test_bad_clips_of_another_rate_become_good_where_they_are_resampled(raw, tmp_path):
    bad = mimii.plan_table(mimii.find_recordings(raw), PRESET, split="none")
    assert sum(map(bool, bad.catalogue.problems)) == 2
    mimii.featurize(bad, tmp_path / "t")
    table_of(raw, tmp_path / "t", update=True)
    table = open_table(tmp_path / "t")
    assert oracle.check_table(table, PRESET) == 5
    assert mimii.verify(tmp_path / "t", str(raw)).is_right


def test_columns_of_a_list_are_corrected_and_new_ones_added(raw, tmp_path):
    listed, paths = tmp_path / "list.csv", sorted(raw.rglob("*.wav"))[:3]

    def update(head, *lines):
        rows = [f"{path},{line}" for path, line in zip(paths, lines, strict=True)]
        listed.write_text("\n".join([f"path,{head}", *rows]))
        plan = mimii.plan_table(mimii.find_recordings(lists=listed), PRESET, sample_rate=16_000, split="none")
        return mimii.featurize(plan, tmp_path / "t", update=True)

    update("load_kw,operator,serial", "1,007,X1", "2.50,8,0012", ",9,0012")
    first = contents(tmp_path / "t")
    assert not update("load_kw,operator,serial", "1,007,X1", "2.50,8,0012", ",9,0012").computed
    assert contents(tmp_path / "t") == first
    run = update("load_kw,speed,serial", "1,30,0011", "4,31,0012", "7.5,32,0013")
    assert not run.computed
    table = open_table(tmp_path / "t")
    assert table.load_kw.values.tolist() == [1, 4, 7.5]
    assert table.speed.values.tolist() == [30, 31, 32]
    assert table.operator.values.tolist() == [7, 8, 9]
    assert table.serial.values.tolist() == ["0011", "0012", "0013"]  # text stays as it is written
    with pytest.raises(mimii.StoreError, match="load_kw is 'full', and the table's column load_kw has numbers"):
        update("load_kw", "full", "2", "3")
    assert mimii.verify(tmp_path / "t").is_right


def test_a_table_that_replaces_another_has_none_of_its_columns(raw, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(f"path,load_kw\n{next(raw.rglob('*.wav'))},3\n")
    clips = mimii.find_recordings(raw, lists=listed)
    mimii.featurize(mimii.plan_table(clips, PRESET, sample_rate=16_000, split="none"), tmp_path / "t")
    table_of(raw, tmp_path / "t", {"n_mels": 48}, overwrite=True)
    assert not (tmp_path / "t" / "load_kw").exists()
    table_of(raw, tmp_path / "other", {"n_mels": 48})
    assert mimii.verify(tmp_path / "t").is_right
    np.testing.assert_array_equal(open_table(tmp_path / "t").features, open_table(tmp_path / "other").features)


def test_resuming_gives_the_same_bytes(raw, tmp_path):
    changes = SPECS["resampled segments of all channels"]
    table_of(raw, tmp_path / "once", changes)
    table_of(raw, tmp_path / "again", changes)
    for key in ("features/c.1.0", "features/records/1.json", "features/c.3.0", "channel/c.0"):
        (tmp_path / "again" / key).unlink()
    assert sorted(table_of(raw, tmp_path / "again", changes).computed) == [1, 3]
    assert_same_table(tmp_path / "once", tmp_path / "again")


def test_new_parts_of_a_recording_are_on_its_side_of_the_split(tmp_path):
    for seed in range(12):
        write_clip(tmp_path / "raw" / "fan" / "id_00" / "normal" / f"{seed:08d}.wav", seed, 16_000)
    for seed in range(3):
        write_clip(tmp_path / "raw" / "fan" / "id_00" / "abnormal" / f"{seed:08d}.wav", 50 + seed, 16_000)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, split="baseline")
    for seed in range(0, 12, 2):
        write_clip(tmp_path / "raw" / "fan" / "id_00" / "normal" / f"{seed:08d}.wav", seed, 40_000)
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, split="baseline", update=True)
    table = open_table(tmp_path / "t")
    sides = {}
    for path, split in zip(table.path.values, table.split.values, strict=True):
        sides.setdefault(path, set()).add(split)
    assert table.sizes["clip"] == 30 + 6 * 3
    assert all(len(of_one) == 1 for of_one in sides.values())
    assert {split for of_one in sides.values() for split in of_one} == {"train", "test"}


def test_a_path_that_is_no_text_grows_without_a_difference(tmp_path):
    folder = os.fsencode(tmp_path / "raw") + b"/lat\xefn/normal"
    os.makedirs(folder)
    write_clip(tmp_path / "a.wav", 1)
    os.rename(tmp_path / "a.wav", os.path.join(folder, b"x.wav"))
    table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5})
    before = contents(tmp_path / "t")
    assert not table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}, update=True).computed
    assert contents(tmp_path / "t") == before
    assert not table_of(tmp_path / "raw", tmp_path / "t", {"segment": 0.5}).computed


def test_all_segments_behind_damage_have_the_same_reason(tmp_path):
    data = mp3(samples_of(noise(1, 20 * 16_000)))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.mp3").write_bytes(data[: len(data) * 2 // 3])
    plan = mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), PRESET, segment=2.0, channel="all", split="none")
    mimii.featurize(plan, tmp_path / "t")
    statuses = open_table(tmp_path / "t").status.values.tolist()
    assert statuses[0] == "ok"
    assert len(set(statuses)) == 2
    assert statuses.index(statuses[-1]) > 3
