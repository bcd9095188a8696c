"""A table is read whole, by column, by shard or by clip: never an unfinished one."""

import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

import mimii
from mimii.engine import StoreError
from mimii.storage import DiskObjects
from mimii.table import COLUMNS, read_columns, read_shard, reading, spans
from mimii.table.reading import read_array, read_array_by_zarr, read_dimensions, read_metadata
from tests.helpers.commands import MIB, fill, open_table
from tests.helpers.recordings import write_clip, write_machines

N_CLIPS, ROWS_A_CLIP = 48, 497
BAD = 8
SPEC = mimii.FeatureSpec(hop_length=32)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan clips of two machines, all for training but some; one of them is bad when it is read."""
    raw = tmp_path_factory.mktemp("reading") / "raw"
    paths = write_machines(raw, N_CLIPS)
    write_clip(raw / "unlabelled" / "a.wav", 77)
    plan = mimii.plan_table(mimii.find_recordings(str(raw)), SPEC, split="stratified", shard_bytes=MIB)
    paths[BAD].write_bytes(b"no longer audio")
    return plan


@pytest.fixture(scope="module")
def url(plan, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("reading") / "features.zarr")
    mimii.featurize(plan, folder)
    return folder


@pytest.fixture(scope="module")
def table(url):
    return open_table(url)


def test_the_table_is_what_xarray_opens(url, table):
    opened = mimii.open_table(url)
    assert opened.attrs == table.attrs
    xarray.testing.assert_equal(opened.load().drop_vars(opened.coords), table)
    assert mimii.open_table(f"{url}/").sizes["clip"] == N_CLIPS + 1


def test_an_opened_table_has_frequencies_times_and_units_for_plots(url, table):
    opened = mimii.open_table(url)
    assert set(opened.coords) == {"mel", "feature_frequency", "feature_offset_s"}
    assert opened.mel.values.tolist() == table.mel_frequency.values.tolist()
    assert opened.feature_frequency.values.tolist() == table.mel_frequency.values.tolist() * 5
    assert opened.feature_offset_s.values[[0, 63, 64, 319]].tolist() == [0.0, 0.0, 0.002, 0.008]
    units = {name: opened[name].attrs.get("units") for name in ("mel", "feature_offset_s", "mel_std", "duration_s")}
    assert units == {"mel": "Hz", "feature_offset_s": "s", "mel_std": "dB", "duration_s": "s"}
    [line] = opened.mel_mean[0].plot()
    assert (line.axes.get_xlabel(), line.axes.get_ylabel()) == ("frequency [Hz]", "mean over the clip [dB]")
    assert line.get_xdata().tolist() == table.mel_frequency.values.tolist()
    plt.close(line.figure)
    assert "16,000 Hz" in mimii.plan_table([], SPEC)._repr_html_()


def test_a_column_of_a_list_that_is_named_as_a_coordinate_stays(tmp_path):
    path = write_clip(tmp_path / "a.wav", 3)
    (tmp_path / "list.csv").write_text(f"path,feature_offset_s\n{path},7\n")
    mimii.featurize(mimii.plan_table(mimii.find_recordings(lists=str(tmp_path / "list.csv")), SPEC), tmp_path / "t")
    opened = mimii.open_table(tmp_path / "t")
    assert opened.feature_offset_s.values.tolist() == [7.0]
    assert opened.mel.attrs["units"] == "Hz"


def test_rows_are_not_read_before_they_are_asked_for(url, tmp_path):
    shutil.copytree(url, tmp_path / "copy")
    for shard in (tmp_path / "copy/features").glob("c.*"):
        shard.write_bytes(b"damaged")
    opened = mimii.open_table(str(tmp_path / "copy"))
    assert opened.features.shape == ((N_CLIPS + 1) * ROWS_A_CLIP, 320)
    with pytest.raises(ValueError, match=r".*"):
        opened.features.load()


def read(how, url):
    return {
        "open_table": mimii.open_table,
        "batches": lambda url: next(mimii.batches(url)),
        "read_columns": lambda url: read_columns(DiskObjects(url)),
    }[how](url)


@pytest.mark.parametrize("how", ["open_table", "batches", "read_columns"])
def test_an_unfinished_table_is_refused_with_what_to_do(how, plan, tmp_path):
    fill(plan, tmp_path / "out")
    with pytest.raises(
        StoreError, match=r"out: the table is not finished; run the same python -m jobs\.featurize command"
    ):
        read(how, str(tmp_path / "out"))


@pytest.mark.parametrize("how", ["open_table", "batches", "read_columns"])
def test_what_is_no_table_is_refused(how, tmp_path):
    with pytest.raises(StoreError, match=r"none: there is no table of features"):
        read(how, str(tmp_path / "none"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        StoreError, match=r"what is there is no table of features; name the --output of python -m jobs.featurize"
    ):
        read(how, str(tmp_path))


@pytest.mark.parametrize("how", ["open_table", "batches", "read_columns"])
@pytest.mark.parametrize(
    ("there", "later", "named"),
    [('"format": 3', '"format": 4', "format 4"), ('\\"n_fft\\":', '\\"emphasis\\": 0.9, \\"n_fft\\":', "emphasis")],
)
def test_a_table_of_a_later_version_is_refused_with_what_to_do(how, url, tmp_path, there, later, named):
    shutil.copytree(url, tmp_path / "copy")
    group = tmp_path / "copy" / "zarr.json"
    assert there in group.read_text()
    group.write_text(group.read_text().replace(there, later))
    with pytest.raises(StoreError, match=rf"copy: made by a later version .* know {named}: install that version"):
        read(how, str(tmp_path / "copy"))


def test_columns_are_decoded_as_zarr_decodes_them(url):
    objects = DiskObjects(url)
    metadata = read_metadata(objects)
    names = read_dimensions(metadata).keys() - {"features"}
    assert {"path", "label", "mel_mean", "feature_std", "row_clip"} <= names
    for name in names:
        ours, theirs = (read(objects, name, metadata) for read in (read_array, read_array_by_zarr))
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_columns_that_another_program_has_written_anew_are_read(url, tmp_path):
    """In chunks and with codecs of its own; here those of xarray."""
    shutil.copytree(url, tmp_path / "copy")
    label = xarray.open_zarr(tmp_path / "copy", chunks=None)[["label"]].load()
    label["label"] = 1 - label["label"]
    label.drop_encoding().to_zarr(tmp_path / "copy", mode="a", consolidated=True)
    assert read_columns(DiskObjects(str(tmp_path / "copy"))).label.tolist() == label["label"].values.tolist()


def test_columns_are_those_of_the_table(url, table):
    columns = read_columns(DiskObjects(url))
    names = set(COLUMNS) - {"mel_frequency", "domain", "attributes", "recorded_at"}
    for name in names:
        np.testing.assert_array_equal(getattr(columns, name), table[name].values)
    assert (columns.spec, columns.shard_rows) == (SPEC, table.attrs["shard_rows"])


def test_a_shard_has_its_rows_of_the_table(url, table, plan):
    shard_rows = plan.rows.layout.shard_rows
    for shard in (0, plan.rows.n_shards - 1):
        rows = slice(shard * shard_rows, (shard + 1) * shard_rows)
        np.testing.assert_array_equal(read_shard(DiskObjects(url), shard), table.features.values[rows])


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_shard_or_a_column_that_is_missing_or_damaged_is_named(url, tmp_path, damage):
    shutil.copytree(url, tmp_path / "copy")
    for key in ("features/c.2.0", "label/c.0"):
        path = tmp_path / "copy" / key
        path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-1])
    objects = DiskObjects(str(tmp_path / "copy"))
    with pytest.raises(OSError, match=rf"features/c\.2\.0: (this shard is )?{damage}"):
        read_shard(objects, 2)
    if damage == "damaged":
        with pytest.raises(StoreError, match=r"a column is damaged or missing: label: its checksum is not "):
            read_columns(objects)


def test_a_version_with_another_format_reads_the_columns_that_tables_of_this_one_have(tmp_path, monkeypatch):
    """As channel and start, which tables of formats 1 and 2 do not have."""
    write_clip(tmp_path / "raw" / "a.wav", 1, 16_000, n_channels=2)
    plan = mimii.plan_table(mimii.find_recordings(str(tmp_path / "raw")), SPEC, channel="all", segment=0.5)
    mimii.featurize(plan, str(tmp_path / "t"))
    monkeypatch.setattr(reading, "FORMAT", spans.FORMAT + 1, raising=False)
    columns = read_columns(DiskObjects(str(tmp_path / "t")))
    assert list(zip(columns.channel.tolist(), columns.start_s.tolist(), strict=True)) == [
        (0, 0.0),
        (1, 0.0),
        (0, 0.5),
        (1, 0.5),
    ]
