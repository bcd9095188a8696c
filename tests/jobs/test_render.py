"""The command that renders: folders, pixels, manifests; refused, resumed, killed, the same bytes on any scheduler."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from jobs.render import main
from mimii.recordings.synthesis import wav_bytes
from tests.helpers.commands import assert_same_bytes, contents, featurize_here, partial_files, run, wait_for
from tests.helpers.faults import Gate, Run, kill_one
from tests.helpers.recordings import noise, write_clip, write_machines
from tests.helpers.servers import filesystem
from tests.images.test_pixels import naive_gray

N_CLIPS = 64
WIDE = ("--hop-length", "32")
"""Makes 501 frames of a second of sound: with 64 clips, four tasks."""


def render_here(*arguments):
    """Run the command in this process, one task after the other: half a second less."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return main(["--scheduler", "sync", *map(str, arguments)])
    except SystemExit as exit_:
        return exit_.code
    finally:
        signal.signal(signal.SIGTERM, handler)


def images_of(output):
    return {str(path.relative_to(output)): path for path in output.glob("*/**/*.*") if path.suffix in (".png", ".jpg")}


def listed(output):
    with (output / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, N_CLIPS)
    return root


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "images"
    done = run("render", raw, "--output", output, "--workers", 2)
    assert done.returncode == 0, done.stderr
    return output, done


@pytest.fixture(scope="module")
def wide(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("wide") / "images"
    assert render_here(raw, "--output", output, *WIDE) == 0
    return output


def librosa_decibel(path, **how):
    import librosa  # noqa: PLC0415  slow

    samples, sample_rate = librosa.load(path, sr=None, mono=False)
    mel = librosa.feature.melspectrogram(y=np.atleast_2d(samples)[0], sr=sample_rate, n_fft=2048, n_mels=64, **how)
    return librosa.power_to_db(mel, ref=np.max).T


def test_each_clip_has_an_image_where_a_classifier_looks_for_it(finished, raw):
    output, _ = finished
    found = images_of(output)
    assert len(found) == N_CLIPS == len(list(raw.rglob("*.wav")))
    for name in found:
        split, label, file = name.split("/")
        assert split in ("train", "test")
        assert file.startswith(f"{label}-fan-id_0")
    for split in ("train", "test"):
        assert sorted(path.name for path in (output / split).iterdir()) == ["abnormal", "normal"]


def test_an_image_folder_has_the_classes_of_our_document(finished):
    output, _ = finished
    classes = json.loads((output / "classes.json").read_text())["class_to_idx"]
    folders = sorted(path.name for path in (output / "train").iterdir())
    assert {name: index for index, name in enumerate(folders)} == classes == {"abnormal": 0, "normal": 1}
    try:
        from torchvision.datasets import ImageFolder  # noqa: PLC0415  not a dependency
    except ImportError:
        return
    assert ImageFolder(str(output / "train")).class_to_idx == classes


def test_the_pixels_are_those_of_librosa_by_the_formula(finished):
    output, _ = finished
    for row in listed(output)[::9]:
        decibel = librosa_decibel(row["path"])
        expected = naive_gray(decibel, decibel.min(), decibel.max()).astype(int)
        difference = np.abs(pixels_of(output / row["file"]) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def test_the_list_says_what_each_image_is(finished, raw):
    output, _ = finished
    rows = listed(output)
    assert sorted(row["file"] for row in rows) == sorted(images_of(output))
    assert {row["path"] for row in rows} == {str(path) for path in raw.rglob("*.wav")}
    for row in rows:
        split, label, _ = row["file"].split("/")
        assert (row["split"], row["label"], row["status"]) == (split, label, "ok")
        assert (row["machine_type"], row["snr_db"], row["number"]) == ("fan", "6", str(int(Path(row["path"]).stem)))
        assert (int(row["width"]), int(row["height"])) == pixels_of(output / row["file"]).shape[::-1] == (32, 64)
        assert (row["start_s"], row["stop_s"]) == ("0.000", "1.000")


def test_the_summary_says_what_was_done_and_what_to_look_at(finished):
    output, done = finished
    assert f"images   {N_CLIPS} PNG" in done.stdout
    assert f"look at   {output}/overview.png" in done.stdout
    assert (output / "overview.png").stat().st_size > 10_000
    assert "s left" in done.stderr


@pytest.mark.parametrize("how", [["--scheduler", "sync"], ["--scheduler", "threads"], ["--workers", "1"]], ids=" ".join)
def test_any_scheduler_and_number_of_workers_writes_the_same_bytes(finished, raw, tmp_path, how):
    assert main([str(raw), "--output", str(tmp_path / "images"), "--quiet", *how]) == 0
    assert_same_bytes(tmp_path / "images", finished[0])


def test_a_second_run_writes_nothing(raw, tmp_path, capsys):
    output = tmp_path / "images"
    assert render_here(raw, "--output", output) == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert render_here(raw, "--output", output) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    assert "there was nothing to compute" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["image", "record", "overview.png", "images.csv", "classes.json", "shorter image"])
def test_what_is_lost_is_made_again_and_nothing_else(raw, tmp_path, lost, wide):
    output = tmp_path / "images"
    shutil.copytree(wide, output)
    images = sorted(images_of(output).values())
    places = {"image": images[3], "record": output / "records/0.json", "shorter image": images[3]}
    path = places.get(lost, output / lost)
    before = {image: image.stat().st_mtime_ns for image in images}
    path.write_bytes(path.read_bytes()[:-1]) if lost == "shorter image" else path.unlink()
    assert render_here(raw, "--output", output, *WIDE) == 0
    assert_same_bytes(output, wide)
    written = [image for image in images if image.exists() and image.stat().st_mtime_ns != before[image]]
    assert len(written) == {"image": 1, "shorter image": 1, "record": 20}.get(lost, 0)


def test_names_of_three_snrs_of_one_clip_do_not_clash_and_stay_on_one_side(tmp_path):
    for seed in range(30):
        for snr in ("-6", "0", "6"):
            write_clip(tmp_path / f"raw/{snr}_dB_fan/fan/id_00/normal/{seed:08d}.wav", seed)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "images") == 0
    found = images_of(tmp_path / "images")
    assert len(found) == 90
    sides = {}
    for name in found:
        sides.setdefault(name[-12:], set()).add(name.partition("/")[0])
    assert {len(side) for side in sides.values()} == {1}
    assert {side for some in sides.values() for side in some} == {"train", "test"}


def test_the_share_for_training_and_the_seed_can_be_chosen(raw, tmp_path):
    def trained(*how):
        output = tmp_path / "-".join(how)
        assert render_here(raw, "--output", output, *how) == 0
        return {name for name in images_of(output) if name.startswith("train/")}

    half, other = trained("--train-fraction", "0.5"), trained("--train-fraction", "0.5", "--split-seed", "7")
    assert 0.3 * N_CLIPS < len(half) < 0.7 * N_CLIPS
    assert half != other


def test_without_a_split_all_images_are_together(raw, tmp_path):
    assert render_here(raw, "--output", tmp_path / "out", "--split", "none", "--manifest-base", "s3://b/c") == 0
    assert {name.partition("/")[0] for name in images_of(tmp_path / "out")} == {"all"}
    assert [path.name for path in (tmp_path / "out/manifests").iterdir()] == ["all.manifest"]


def test_clips_without_a_label_go_apart(tmp_path):
    write_machines(tmp_path / "raw", 8)
    write_clip(tmp_path / "raw/take 1.wav", 9)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "out", "--manifest-base", "s3://b/c") == 0
    [name] = [name for name in images_of(tmp_path / "out") if name.startswith("unlabelled/")]
    assert name.startswith("unlabelled/unknown-take_1-")
    assert "take_1" not in "".join(path.read_text() for path in (tmp_path / "out/manifests").iterdir())


@pytest.mark.parametrize(
    ("options", "size", "mode"),
    [
        (["--style", "colormap"], (32, 64), "RGB"),
        (["--style", "colormap", "--cmap", "magma", "--size", "224x200"], (224, 200), "RGB"),
        (["--size", "50x70", "--resample", "lanczos"], (50, 70), "L"),
        (["--n-mels", "100", "--hop-length", "100"], (161, 100), "L"),
        (["--window", "0.5"], (16, 64), "L"),
        (["--preset", "mimii-baseline", "--db-range", "-100", "40"], (32, 64), "L"),
    ],
    ids=str,
)
def test_options_change_the_images(tmp_path, options, size, mode):
    write_machines(tmp_path / "raw", 4)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "out", *options) == 0
    found = images_of(tmp_path / "out")
    assert len(found) == (8 if "--window" in options else 4)
    for path in found.values():
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("PNG", size, mode)


def test_jpegs_are_named_so(tmp_path):
    write_machines(tmp_path / "raw", 4)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "out", "--format", "jpeg") == 0
    assert {path.suffix for path in images_of(tmp_path / "out").values()} == {".jpg"}
    for path in images_of(tmp_path / "out").values():
        with Image.open(path) as image:
            assert image.format == "JPEG"


def test_a_windows_image_is_that_of_the_frames_alone(tmp_path):
    write_clip(tmp_path / "raw/6_dB_fan/fan/id_00/normal/00000000.wav", 1, 64_000)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "out", "--window", 2) == 0
    decibel = librosa_decibel(tmp_path / "raw/6_dB_fan/fan/id_00/normal/00000000.wav")
    for index, (start, stop) in enumerate(((0, 62), (62, 124))):
        [path] = [path for name, path in images_of(tmp_path / "out").items() if name.endswith(f"-w000{index}.png")]
        part = decibel[start:stop]
        difference = np.abs(pixels_of(path).astype(int) - naive_gray(part, part.min(), part.max()))
        assert difference.max() <= 1


def manifests(output):
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in output.glob("manifests/*")
    }


def test_manifests_list_each_labelled_image_once_where_it_will_be(raw, tmp_path):
    output = tmp_path / "out"
    assert render_here(raw, "--output", output, "--manifest-base", "s3://bucket/some/where/", *WIDE, "--check") == 0
    found = manifests(output)
    assert found.keys() == {"train", "test"}
    for split, entries in found.items():
        names = sorted(name for name in images_of(output) if name.startswith(split))
        assert sorted(entry["source-ref"] for entry in entries) == [f"s3://bucket/some/where/{name}" for name in names]
        for entry in entries:
            label = entry["source-ref"].split("/")[-2]
            about = entry["machine-state-metadata"]
            assert about["class-name"] == label
            assert entry["machine-state"] == {"abnormal": 0, "normal": 1}[label]
            assert about["type"] == "groundtruth/image-classification"


def test_without_a_place_on_s3_there_are_no_manifests_and_another_place_only_rewrites_them(raw, tmp_path):
    output = tmp_path / "out"
    assert render_here(raw, "--output", output) == 0
    assert not (output / "manifests").exists()
    images = {path: path.stat().st_mtime_ns for path in images_of(output).values()}
    for base in ("s3://a/b", "s3://c/d"):
        assert render_here(raw, "--output", output, "--manifest-base", base) == 0
        refs = [entry["source-ref"] for entries in manifests(output).values() for entry in entries]
        assert len(refs) == N_CLIPS
        assert all(ref.startswith(f"{base}/t") for ref in refs)
    assert render_here(raw, "--output", output) == 0
    assert not manifests(output)
    assert {path: path.stat().st_mtime_ns for path in images_of(output).values()} == images


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--n-mels", "32"], "less than 64 pixels high: pass --n-mels 64"),
        (["--size", "4100x300"], "more than 4096 pixels wide"),
        (["--size", "2000x90"], "one side more than 20 times the other"),
        (["--hop-length", "2000"], "less than 64 pixels wide"),
        (["--train-fraction", "0"], "train needs images of both labels"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["done", "dry"])
def test_check_says_which_image_breaks_which_limit(tmp_path, capsys, options, said, dry):
    write_machines(tmp_path / "raw", 4, 70_000)
    assert render_here(tmp_path / "raw", "--output", tmp_path / "out", "--check", *options, *dry) == 4
    err = capsys.readouterr().err
    assert said in err
    assert "normal-fan-id_00-6dB-00000000.png" in err or "--train-fraction" in options
    assert (tmp_path / "out").exists() == (not dry)


def test_check_finds_what_was_done_to_images_and_manifests(raw, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = (raw, "--output", output, "--manifest-base", "s3://b/c", "--check", "--quiet", "--size", "64x64")
    assert render_here(*arguments) == 0
    assert "keep to the limits" in capsys.readouterr().out
    train = output / "manifests/train.manifest"
    train.write_text(train.read_text() + "\n" + (output / "manifests/test.manifest").read_text())
    first = min(images_of(output).values())
    first.write_bytes(bytes(len(first.read_bytes())))
    assert render_here(*arguments) == 4
    err = capsys.readouterr().err
    assert "a blank line" in err
    assert "listed more than once, or in train and in test" in err
    assert f"{first.relative_to(output)}: not a whole image" in err


def test_a_clip_of_more_than_41_seconds_is_too_wide_at_native_size(tmp_path, capsys):
    write_machines(tmp_path / "raw", 4, 16_000 * 10)
    write_clip(tmp_path / "raw/6_dB_fan/fan/id_00/normal/00000100.wav", 5, 16_000 * 42)
    arguments = (tmp_path / "raw", "--output", tmp_path / "out", "--check", "--train-fraction", 1)
    assert render_here(*arguments) == 4
    err = capsys.readouterr().err
    assert "1: one side more than 20 times the other: pass --window 10" in err
    assert "00000100.png" in err
    assert render_here(*arguments, "--window", 10, "--overwrite") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "baseline"], "normal sound alone"),
        (["--cmap", "magma"], "needs --style colormap"),
        (["--style", "colormap", "--cmap", "plasmo"], "'plasmo'"),
        (["--style", "rainbow"], "--style"),
        (["--size", "224"], "width x height"),
        (["--size", "0x5"], "1 to 16384 pixels"),
        (["--db-range", "0", "-80"], "the smaller first"),
        (["--window", "0.01"], "at least two frames"),
        (["--train-fraction", "1.5"], "from 0 to 1"),
        (["--manifest-base", "/data"], "s3://bucket/prefix"),
        (["--resample", "best"], "--resample"),
        (["--frames", "5"], "--frames"),
        (["--prune"], "needs --update"),
    ],
    ids=str,
)
def test_wrong_options_end_with_2_and_what_is_wrong(raw, tmp_path, capsys, options, said):
    assert render_here(raw, "--output", tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_style_is_refused_with_what_differs_and_overwrite_replaces(raw, tmp_path, capsys):
    output = tmp_path / "out"
    ours = ("--db-range", -60, 0, "--size", "32x70")
    assert render_here(raw, "--output", output, *ours) == 0
    (output / "notes.txt").write_text("mine")
    before = contents(output)
    other = (raw, "--output", output, *ours, "--style", "colormap", "--n-mels", "70")
    assert render_here(*other) == 2
    err = capsys.readouterr().err
    assert "colormap: gray there, viridis now" in err
    assert "n_mels: 64 there, 70 now" in err
    assert len([line for line in err.splitlines() if line.startswith("  ")]) == 2
    assert contents(output) == before
    assert render_here(*other, "--overwrite") == 0
    assert (output / "notes.txt").read_text() == "mine"
    assert {pixels_of(path).shape for path in images_of(output).values()} == {(70, 32, 3)}


def test_other_clips_are_refused(raw, tmp_path, capsys):
    output = tmp_path / "out"
    assert render_here(raw, "--output", output) == 0
    write_clip(tmp_path / "more/0_dB/fan/id_00/normal/00000001.wav", 3)
    assert render_here(raw, tmp_path / "more", "--output", output) == 2
    assert f"clips: {N_CLIPS} there, {N_CLIPS + 1} now" in capsys.readouterr().err


def test_update_says_what_would_change_does_it_and_then_has_nothing_to_do(tmp_path, capsys):
    paths = write_machines(tmp_path / "raw", 12)
    arguments = (tmp_path / "raw", "--output", tmp_path / "out", "--update")
    assert render_here(*arguments) == 0
    before = contents(tmp_path / "out")
    paths[1].unlink()
    write_clip(paths[2], 99, 20_000)
    write_clip(tmp_path / "raw/6_dB_fan/fan/id_00/normal/00000100.wav", 7)
    capsys.readouterr()
    assert render_here(*arguments, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "update       1 new, 1 replaced, 0 relabelled, 1 gone" in said
    assert "renders      2 images, 0 copied to another name" in said
    assert f"1 gone:\n  {paths[1]}" in said
    assert "would be refused: clips that are gone are not among the recordings named now" in said
    assert render_here(*arguments) == 2
    assert str(paths[1]) in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    assert render_here(*arguments, "--prune") == 0
    assert "update   1 new, 1 replaced, 0 relabelled, 1 gone" in capsys.readouterr().out
    assert render_here(tmp_path / "raw", "--output", tmp_path / "new") == 0
    assert_same_bytes(tmp_path / "out", tmp_path / "new")
    capsys.readouterr()
    assert render_here(*arguments) == 0
    said = capsys.readouterr().out
    assert "update   0 new, 0 replaced, 0 relabelled, 0 gone" in said
    assert "there was nothing to compute" in said


@pytest.mark.parametrize("what", ["a table", "a folder of mine"])
def test_something_elses_place_is_left_alone(raw, tmp_path, capsys, what):
    output = tmp_path / "out"
    if what == "a table":
        assert featurize_here(raw, "--output", output) == 0
    else:
        output.mkdir()
        (output / "thesis.txt").write_text("years of work")
    before = contents(output)
    assert render_here(raw, "--output", output, "--overwrite") == 2
    assert "what is there is no set of images; it is left alone" in capsys.readouterr().err
    assert contents(output) == before


def test_bad_clips_have_no_image_but_a_line_with_the_reason(tmp_path, capsys):
    paths = write_machines(tmp_path / "raw", 8)
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:5000])
    arguments = (tmp_path / "raw", "--output", tmp_path / "out")
    assert render_here(*arguments) == 3
    rows = {Path(row["path"]).name: row for row in listed(tmp_path / "out")}
    assert len(rows) == 8
    for path in paths[1:3]:
        assert rows[path.name]["file"] == ""
        assert rows[path.name]["status"] not in ("", "ok")
    assert len(images_of(tmp_path / "out")) == 6
    assert "exit" not in capsys.readouterr().err
    assert render_here(*arguments, "--max-bad", 2) == 0


def test_a_clip_that_has_become_bad_loses_its_image(tmp_path):
    paths = write_machines(tmp_path / "raw", 8)
    arguments = (tmp_path / "raw", "--output", tmp_path / "out", "--manifest-base", "s3://b/c")
    assert render_here(*arguments) == 0
    [image] = [path for name, path in images_of(tmp_path / "out").items() if name.endswith("00000002.png")]
    data = bytearray(paths[2].read_bytes())
    data[20:22] = b"\x55\x55"  # another encoding, of the same length
    paths[2].write_bytes(bytes(data))
    os.utime(paths[2], (1, 1))
    status = render_here(*arguments)
    if status == 2:  # its header shows already that it is bad: it is another set of clips
        status = render_here(*arguments, "--overwrite")
    assert status == 3
    assert not image.exists()
    assert "00000002.png" not in "".join(path.read_text() for path in (tmp_path / "out/manifests").iterdir())


def test_a_replaced_recording_has_its_image_rendered_again(tmp_path):
    paths = write_machines(tmp_path / "raw", 8)
    arguments = (tmp_path / "raw", "--output", tmp_path / "out")
    assert render_here(*arguments) == 0
    before = contents(tmp_path / "out")
    paths[5].write_bytes(wav_bytes(noise(99), 16_000))
    assert render_here(*arguments) == 0
    after = contents(tmp_path / "out")
    changed = {name for name in before if name.startswith("t") and before[name] != after[name]}
    assert {name[-12:] for name in changed} == {"00000005.png"}


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """Render in one go what takes a while: return where, and how."""
    output, how = tmp_path_factory.mktemp("whole") / "out", ("--hop-length", 8)
    assert render_here(raw, "--output", output, *how) == 0
    return output, how


@pytest.mark.slow
def test_killed_at_any_moment_the_same_bytes_in_the_end(raw, whole, tmp_path):
    """First a worker, which is replaced; then, when one clip alone is left, all of it."""
    output, (whole, how) = tmp_path / "out", whole
    n_tasks = len(list((whole / "records").iterdir()))
    assert n_tasks > 10
    gate = Gate(tmp_path / "gate", sorted(raw.rglob("*.wav"), key=lambda path: path.parts)[-1:])
    started = Run(raw, output, job="render", how=how, **gate.environment)
    started.wait_for(lambda: list(output.glob("records/*.json")), "the first record")
    kill_one(started.workers())
    started.wait_for(lambda: len(list(output.glob("records/*.json"))) == n_tasks - 1, "all records but one")
    started.kill()
    wait_for(lambda: not started.alive(), "the end of all workers")
    done = {path: path.stat().st_mtime_ns for path in output.glob("records/*.json")}
    assert len(done) == n_tasks - 1
    assert render_here(raw, "--output", output, *how) == 0
    assert {path for path in done if path.stat().st_mtime_ns == done[path]} == set(done)
    assert_same_bytes(output, whole)
    assert partial_files(output) == []


def test_from_s3_to_s3_with_manifests_and_the_same_images(raw, wide, rclone, use):
    use(rclone)
    files = filesystem(rclone)
    files.mkdirs("vision", exist_ok=True)
    for path in raw.rglob("*.wav"):
        files.pipe(f"vision/raw/{path.relative_to(raw)}", path.read_bytes())
    arguments = ("s3://vision/raw", "--output", "s3://vision/images", "--check", *WIDE)
    assert render_here(*arguments) == 0
    ours = {name.removeprefix("vision/images/"): files.cat_file(name) for name in files.find("vision/images")}
    theirs = {name: path.read_bytes() for name, path in images_of(wide).items()}
    assert {name: data for name, data in ours.items() if name.startswith(("train/", "test/"))} == theirs
    lines = [
        json.loads(line) for split in ("train", "test") for line in ours[f"manifests/{split}.manifest"].splitlines()
    ]
    assert {line["source-ref"] for line in lines} == {f"s3://vision/images/{name}" for name in theirs}
    assert ours["overview.png"] == (wide / "overview.png").read_bytes()
    before = {name: files.info(name)["LastModified"] for name in files.find("vision/images")}
    assert render_here(*arguments) == 0
    assert {name: files.info(name)["LastModified"] for name in files.find("vision/images")} == before


def test_dry_run_prints_the_plan_and_writes_nothing(raw, tmp_path, capsys):
    assert render_here(raw, "--output", tmp_path / "out", "--dry-run") == 0
    out = capsys.readouterr().out
    assert f"{N_CLIPS} PNG, most of them 32 x 64 pixels" in out
    assert "where nothing is yet" in out
    assert not (tmp_path / "out").exists()


def test_the_real_clips_are_the_formula_of_librosa(real_recordings, tmp_path):
    assert render_here(real_recordings, "--output", tmp_path / "out") == 0
    rows = listed(tmp_path / "out")
    assert len(rows) == 38
    for row in rows[::4]:
        decibel = librosa_decibel(row["path"])
        pixels = pixels_of(tmp_path / "out" / row["file"])
        assert pixels.shape == (64, 313)
        difference = np.abs(pixels.astype(int) - naive_gray(decibel, decibel.min(), decibel.max()))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("db_range", [None, (-60.0, 0.0)], ids=str)
@pytest.mark.parametrize("size", [None, (224, 224)], ids=str)
def test_the_real_clips_in_colour_are_the_formula_of_librosa(real_recordings, tmp_path, db_range, size):
    options = ["--style", "colormap", "--cmap", "magma"]
    options += ["--db-range", *db_range] if db_range else []
    options += ["--size", "224x224", "--resample", "lanczos"] if size else []
    [fan] = (path for path in real_recordings.glob("**/fan/id_00/normal") if "0_dB" in str(path))
    assert render_here(fan, "--output", tmp_path / "out", *options) == 0
    table = mpl.colormaps["magma"](np.arange(256), bytes=True)[:, :3].astype(int)
    for row in listed(tmp_path / "out"):
        decibel = librosa_decibel(row["path"])
        low, high = db_range or (decibel.min(), decibel.max())
        loudness = np.ascontiguousarray(np.clip((decibel.T[::-1] - low) / (high - low), 0, 1).astype(np.float32))
        if size:
            loudness = np.asarray(Image.fromarray(loudness).resize(size, Image.Resampling.LANCZOS)).clip(0, 1)
        expected = table[np.minimum(np.floor(loudness * 256), 255).astype(int)]
        pixels = pixels_of(tmp_path / "out" / row["file"])
        assert pixels.shape == expected.shape
        assert (pixels != expected).any(axis=-1).mean() < 0.01


@pytest.mark.parametrize(
    "name", [b"x$_{$.wav", b"f\xffn.wav", "工場ファン.wav".encode(), b"a\\b.wav", "🏭.wav".encode()]
)
def test_recordings_of_any_name_are_rendered_with_all_documents(tmp_path, name, capsys):
    (tmp_path / "raw").mkdir()
    clip = write_clip(tmp_path / "clip.wav", 1, 8000)
    shutil.copy(clip, os.path.join(os.fsencode(tmp_path / "raw"), name))
    assert render_here(tmp_path / "raw", "--split", "none", "--output", tmp_path / "out") == 0
    assert {"images.csv", "overview.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "Warning" not in capsys.readouterr().err
