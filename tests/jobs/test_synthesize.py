"""The command that makes recordings."""

import numpy as np
import pytest
import soundfile

from tests.helpers.commands import contents, run, run_here

SMALL = ("--clips", 24, "--seconds", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    dest = tmp_path_factory.mktemp("synthesized") / "data/raw"
    return dest, run("synthesize", dest, *SMALL)


def test_it_writes_clips_with_the_layout_and_headers_of_mimii(made):
    dest, done = made
    assert done.returncode == 0
    assert done.stderr == ""
    files = contents(dest)
    assert len(files) == 24
    assert "6_dB_fan/fan/id_00/normal/00000000.wav" in files
    assert {name.split("/")[1] for name in files} == {"fan", "pump", "slider", "valve"}
    for name, data in files.items():
        info = soundfile.info(dest / name)
        assert (info.samplerate, info.channels, info.frames) == (16_000, 8, 8_000)
        assert (info.format, info.subtype) == ("WAVEX", "PCM_16")
        assert len(data) == 80 + 8_000 * 16
    assert len(set(files.values())) == 24


def test_it_prints_what_it_wrote_and_what_to_do_next(made):
    dest, done = made
    assert f"24 clips in {dest}: 3.1 MB written" in done.stdout
    assert "0 were there already" in done.stdout
    assert f"next: python -m jobs.featurize {dest}" in done.stdout


def test_another_run_writes_the_same_bytes_and_another_seed_others(made, tmp_path):
    dest, _ = made
    assert run_here("synthesize", tmp_path / "same", *SMALL).returncode == 0
    assert run_here("synthesize", tmp_path / "other", *SMALL, "--seed", 1).returncode == 0
    expected, other = contents(dest), contents(tmp_path / "other")
    assert contents(tmp_path / "same") == expected
    assert other.keys() == expected.keys()
    assert [name for name in other if other[name] == expected[name]] == []


def test_it_resumes_and_skips_files_that_exist(made, tmp_path):
    expected = contents(made[0])
    dest = tmp_path / "raw"
    run_here("synthesize", dest, "--clips", 10, "--seconds", 0.5)
    paths = sorted(dest.rglob("*.wav"))
    paths[0].write_text("mine")
    paths[1].unlink()
    kept = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths if path.exists()}
    done = run_here("synthesize", dest, *SMALL)
    assert "9 were there already" in done.stdout
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in kept} == kept
    mine = str(paths[0].relative_to(dest))
    assert contents(dest) == expected | {mine: b"mine"}


def test_options_choose_machines_snr_number_and_length(tmp_path):
    chosen = ("--clips", 8, "--seconds", 0.25, "--snr", -6, "--machines", "pump", "valve")
    assert run_here("synthesize", tmp_path, *chosen).returncode == 0
    paths = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.wav")]
    assert len(paths) == 8
    assert {path.parts[0] for path in paths} == {"-6_dB_pump", "-6_dB_valve"}
    assert {soundfile.info(tmp_path / path).frames for path in paths} == {4_000}


def test_a_fault_is_in_the_sound_and_not_only_in_the_name(made):
    folder = made[0] / "6_dB_slider/slider/id_00"
    assert not (folder / "abnormal").exists()
    run_here("synthesize", made[0].parent / "more", "--clips", 8, "--seconds", 2, "--machines", "slider")
    folder = made[0].parent / "more/6_dB_slider/slider/id_00"
    spectra = {}
    for label in ("normal", "abnormal"):
        [path, *_] = sorted((folder / label).glob("*.wav"))
        samples = soundfile.read(path)[0][:, 0]
        spectrum = np.abs(np.fft.rfft(samples))
        hz = np.fft.rfftfreq(len(samples), 1 / 16_000)
        spectra[label] = spectrum[(hz > 2500) & (hz < 3500)].max() / np.median(spectrum)
    assert spectra["abnormal"] > 3 * spectra["normal"]


@pytest.mark.parametrize("dest", ["file", "file/below"])
def test_a_file_in_the_way_ends_it_with_status_1_and_a_message(tmp_path, dest):
    (tmp_path / "file").write_text("mine")
    done = run_here("synthesize", tmp_path / dest, *SMALL)
    assert done.returncode == 1
    assert "synthesize: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--clips", "0"),
        ("--clips", "x"),
        ("--machines", "toaster"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
        ("--seconds", "0"),
        (),
    ],
)
def test_wrong_usage_ends_with_status_2(tmp_path, wrong):
    done = run_here("synthesize", *([tmp_path / "raw", *wrong] if wrong else []))
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "raw").exists()


def test_help_mentions_every_option():
    done = run_here("synthesize", "--help")
    assert done.returncode == 0
    for option in ("DEST", "--clips", "--seconds", "--snr", "--seed", "--machines"):
        assert option in done.stdout
