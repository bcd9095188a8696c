"""What the commands take recordings for: --layout, --assume, several --list, and what the summary says of it."""

import pytest
import xarray

from jobs import featurize, render
from tests.helpers.commands import featurize_here
from tests.helpers.recordings import write_clip

SCHEDULER = ("--scheduler", "sync")


def write(root, *names):
    for seed, name in enumerate(names):
        write_clip(root / name, seed, 4000)
    return root


@pytest.fixture
def factory(tmp_path):
    """Return a folder of two machines that are named by their folders, with two files that are not read."""
    names = [
        f"{machine}/{label}/{n}.wav" for machine in ("press7", "pump3") for label in ("OK", "NG") for n in range(2)
    ]
    raw = write(tmp_path / "raw", *names)
    for name in ("phone.m4a", "talk.m4a", "old.tar.gz"):
        (raw / name).touch()
    return raw


def lines_of(text):
    """Return the lines of a summary by their first word."""
    return {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in text.splitlines()}


def test_the_summary_names_the_machines_that_are_folders(factory, tmp_path, capsys):
    assert featurize_here(factory, "--output", tmp_path / "o.zarr", *SCHEDULER) == 0
    said = lines_of(capsys.readouterr().out)
    assert said["machines"] == "2: press7, pump3 (by folder)"
    assert said["left out"].startswith("2 .m4a: convert them to WAV or FLAC")
    assert said["left out"].endswith("1 .tar.gz: unpack them")
    table = xarray.open_zarr(tmp_path / "o.zarr")
    assert sorted(set(table.machine_id.values.tolist())) == ["press7", "pump3"]


def test_machines_of_known_layouts_are_named_behind(factory, tmp_path, capsys):
    write(factory, "6_dB_fan/fan/id_00/normal/00000001.wav")
    featurize_here(factory, "--output", tmp_path / "o.zarr", *SCHEDULER)
    assert lines_of(capsys.readouterr().out)["machines"] == "3: press7, pump3 (by folder); fan id_00 6 dB"


def test_many_machines_are_cut_with_a_count(tmp_path, capsys):
    raw = write(tmp_path / "raw", *(f"press{n:02d}/ok/{n}.wav" for n in range(12)))
    featurize_here(raw, "--output", tmp_path / "o.zarr", "--dry-run")
    said = lines_of(capsys.readouterr().out)["machines"]
    assert said == f"12: {', '.join(f'press{n:02d}' for n in range(10))} and 2 more (by folder)"


def test_a_dry_run_names_some_of_what_is_left_out(factory, tmp_path, capsys):
    assert featurize_here(factory, "--output", tmp_path / "o.zarr", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("left out")
    names = ("old.tar.gz", "phone.m4a", "talk.m4a")
    assert sorted(lines[begin + 1 : begin + 4]) == [f"  {factory}/{name}" for name in names]


def test_what_is_left_out_is_said_once(factory, tmp_path, capsys, caplog):
    featurize_here(factory, "--output", tmp_path / "o.zarr", *SCHEDULER)
    assert capsys.readouterr().out.count(".m4a") == 1
    assert ".m4a" not in caplog.text


def test_a_dry_run_shows_what_the_first_ten_recordings_become(tmp_path, capsys):
    names = [f"kobe/press7/202405{n + 1:02d}-063000_{'bad' if n % 2 else 'ok'}.wav" for n in range(12)]
    raw = write(tmp_path / "raw", *names, "kobe/press7/zero.wav")
    layout = "{site}/{machine_id}/{recorded_at:%Y%m%d-%H%M%S}_{label}.wav"
    assert featurize_here(raw, "--output", tmp_path / "o.zarr", "--layout", layout, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    [begin] = [index for index, line in enumerate(lines) if line.startswith("path ")]
    assert lines[begin].split() == ["path", "machine_id", "label", "recorded_at", "site"]
    assert lines[begin + 1].split() == [names[0], "press7", "normal", "2024-05-01T06:30:00Z", "kobe"]
    assert [line.split()[0] for line in lines[begin + 1 : begin + 11]] == names[:10]
    assert len(lines) == begin + 11 + 1  # and the output


def test_recordings_are_assumed_normal_and_the_summary_says_how_many(tmp_path, capsys):
    raw = write(tmp_path / "raw", "press7/a.wav", "press7/b.wav", "press7/NG/c.wav", "fan/test/section_00_0000.wav")
    featurize_here(raw, "--output", tmp_path / "o.zarr", "--assume", "normal", *SCHEDULER)
    said = lines_of(capsys.readouterr().out)
    assert said["labels"] == "2 without label assumed normal, 1 left unknown"
    assert said["machines"] == "2: press7 (by folder); fan section_00"
    assert xarray.open_zarr(tmp_path / "o.zarr").label.values.tolist() == [-1, 1, 0, 0]


def test_lists_of_truth_may_be_given_several_times(tmp_path):
    raw = write(tmp_path / "raw", "fan/test/section_00_0000.wav", "pump/test/section_00_0000.wav")
    lists = []
    for machine, label in (("fan", 1), ("pump", 0)):
        path = tmp_path / f"ground_truth_{machine}_section_00_test.csv"
        path.write_text(f"section_00_0000.wav,{label}\n")
        lists += ["--list", path]
    assert featurize_here(raw, *lists, "--output", tmp_path / "o.zarr", *SCHEDULER) == 0
    assert xarray.open_zarr(tmp_path / "o.zarr").label.values.tolist() == [1, 0]


def test_images_have_the_labels_of_a_layout(tmp_path, capsys):
    raw = write(tmp_path / "raw", "press7/ok_1.wav", "press7/bad_2.wav")
    layout = ("--layout", "{machine_id}/{label}_*.wav")
    assert render.main([str(raw), *layout, "--output", str(tmp_path / "images"), *SCHEDULER]) == 0
    assert "machines" not in lines_of(capsys.readouterr().out)
    folders = {path.parent.name for path in (tmp_path / "images").rglob("*.png")}
    assert {"normal", "abnormal"} <= folders


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("{site", "a brace { without the other one"),
        ("*.wav", "no name in braces"),
        ("{status}/*.wav", "{status} is a name"),
    ],
)
def test_a_wrong_layout_is_wrong_usage(layout, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        featurize.main(["raw", "--layout", layout])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "argument --layout: layout" in error
    assert said in error


def test_a_layout_resumes_and_updates(tmp_path):
    raw = write(tmp_path / "raw", "kobe/press7_ok_1.wav", "kobe/press8_bad_2.wav")
    how = ("--layout", "{site}/{machine_id}_{label}_*.wav", "--output", tmp_path / "o.zarr", *SCHEDULER, "--update")
    assert featurize_here(raw, *how) == 0
    write(raw, "kobe/press9_ok_3.wav")
    assert featurize_here(raw, *how) == 0
    table = xarray.open_zarr(tmp_path / "o.zarr")
    assert table.machine_id.values.tolist() == ["press7", "press8", "press9"]
    assert table.label.values.tolist() == [0, 1, 0]
