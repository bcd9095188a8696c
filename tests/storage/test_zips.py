"""Zip archives read in place give the same as unpacked ones, and their claims about themselves are checked."""

import bz2
import copy
import io
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from mimii.recordings.sources import SourceError, find_clips
from mimii.storage import reading, zips
from mimii.storage.access import Access
from mimii.storage.problems import AudioError
from tests.helpers.archives import STORED, Entry, pack, pack_folder, wav, write
from tests.helpers.commands import ROOT, environment, featurize_here, open_table
from tests.helpers.memory import allocates_at_most
from tests.helpers.recordings import write_machines

NAME = "fan/id_00/normal/0000000{}.wav"


def clips(n=4):
    return {NAME.format(index): wav(index) for index in range(n)}


def chunks(output):
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name in ("features", "row_clip")
        for path in (output / name).glob("c.*")
    }


def assert_same_features(one, other, tmp_path):
    """Compare the features of two sources, chunk for chunk."""
    for name, source in (("one", one), ("other", other)):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        assert featurize_here(source, "--output", tmp_path / name) == 0
    assert chunks(tmp_path / "one") == chunks(tmp_path / "other") != {}


@pytest.fixture
def unpacked(tmp_path):
    folder = tmp_path / "unpacked" / "6_dB_fan"
    for name, content in clips().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def entries(**how):
    return [Entry(name, content, **how) for name, content in clips().items()]


def pack_zip64(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in clips().items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
    return path


def pack_streamed(path):
    """Write to a pipe: sizes and checksums follow the data."""

    class Pipe(io.RawIOBase):
        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    with path.open("wb") as file, zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in clips().items():
            archive.writestr(name, content)
    return path


def pack_many(path):
    """Write more members than fit into the directory's end without Zip64."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in clips().items():
            archive.writestr(name, content)
        archive.writestr("note", b"")
        for index in range(65_536):  # all are the same bytes of the archive: only its directory has many
            another = copy.copy(archive.getinfo("note"))
            another.filename = f"notes/{index}"
            archive.filelist.append(another)
    return path


def pack_rubbish(path):
    rubbish = ("__MACOSX/fan/id_00/normal/._00000000.wav", "fan/.DS_Store", "fan/id_00/normal/._00000001.wav")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("fan/") if hasattr(archive, "mkdir") else archive.writestr("fan/", b"")
        for name, content in clips().items():
            archive.writestr(name, content)
        for name in (*rubbish, "readme.txt", "inner.zip"):
            archive.writestr(name, b"rubbish")
    return path


PACKERS = {
    "deflated": lambda path: pack(path, clips()),
    "stored": lambda path: pack(path, clips(), zipfile.ZIP_STORED),
    "zip64": pack_zip64,
    "zip64 directory": pack_many,
    "streamed": pack_streamed,
    "rubbish": pack_rubbish,
    "something before": lambda path: write(path, entries(), before=b"#!/bin/sh\n" * 100),
    "comment": lambda path: write(path, entries(), comment=b"made on a Monday"),
    "long local headers": lambda path: write(path, entries(local_extra=struct.pack("<2H", 0xCAFE, 5000) + bytes(5000))),
    "written twice the same": lambda path: write(path, [*entries(), *entries()[:2]]),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_clips_in_an_archive_are_those_of_the_folder(packer, unpacked, tmp_path):
    archive = PACKERS[packer](tmp_path / "6_dB_fan.zip")
    assert_same_features(archive, unpacked, tmp_path)
    table = open_table(tmp_path / "one")
    assert table.path.values.tolist() == [f"{archive}/{NAME.format(index)}" for index in range(4)]
    assert table.snr_db.values.tolist() == [6.0] * 4
    assert table.machine_id.values.tolist() == ["id_00"] * 4


def test_without_isal_the_features_are_the_same(unpacked, tmp_path, monkeypatch):
    assert zips._zlib() is not zlib, "isal is a dependency on this machine"
    monkeypatch.setattr(zips, "_zlib", lambda: zlib)
    assert_same_features(pack(tmp_path / "6_dB_fan.zip", clips()), unpacked, tmp_path)


@pytest.mark.parametrize("name", ["6_dB", "0_dB", "-6_dB"])
def test_real_clips_in_an_archive_are_those_of_the_folder(real_recordings, tmp_path, name):
    source = real_recordings / name
    if not source.is_dir():
        pytest.skip(f"there is no {source}")
    kept = sorted(source.rglob("*.wav"))[:4]
    for path in kept:
        target = tmp_path / "unpacked" / name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    archive = pack(tmp_path / f"{name}_fan.zip", {str(path.relative_to(source)): path.read_bytes() for path in kept})
    assert_same_features(archive, tmp_path / "unpacked", tmp_path)
    np.testing.assert_array_equal(open_table(tmp_path / "one").snr_db, float(name.split("_")[0]))


def test_a_folder_may_hold_archives_and_files(tmp_path):
    raw = tmp_path / "raw"
    write_machines(raw, 3)
    pack(raw / "-6_dB_pump.zip", {NAME.replace("fan", "pump").format(index): wav(10 + index) for index in range(2)})
    pack(raw / "deeper" / "0_dB_valve.ZIP", {NAME.replace("fan", "valve").format(7): wav(20)})
    found = {(c.identity.machine_type, c.identity.snr_db, c.identity.number) for c in find_clips([str(raw)])}
    assert found == {
        *(("fan", 6.0, 0), ("fan", 6.0, 1), ("fan", 6.0, 2)),
        *(("pump", -6.0, 0), ("pump", -6.0, 1), ("valve", 0.0, 7)),
    }


def test_an_archive_beside_its_unpacked_files_is_a_warning(unpacked, caplog, tmp_path):
    pack_folder(unpacked.parent / "6_dB_fan.zip", unpacked)
    assert featurize_here(unpacked.parent, "--output", tmp_path / "out") == 0
    assert "clips found more than once, with the same machine, SNR, label and number: 4, such as" in caplog.text


BAD = "fan/id_00/normal/00000001.wav"


def with_bad(member):
    """Return entries of which the second is a bad one."""
    return [member if name == BAD else Entry(name, content) for name, content in clips().items()]


def bad(**how):
    return Entry(**{"name": BAD, "content": wav(1)} | how)


def bomb(n_samples=16_000, mib=4):
    """Return a stream with megabytes of zeros after the content that the archive declares."""
    content = wav(1, n_samples)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(content) + compressor.compress(bytes(mib << 20)) + compressor.flush()
    return bad(data=data, size=len(content))


def surplus(n_bytes):
    """Return a stream of so many bytes more than the archive says, though its checksum is that of what it says."""
    return bad(data=Entry("", wav(1) + bytes(n_bytes)).body())


HOSTILE = {
    "dots": (bad(name="fan/../../../etc/1.wav"), "unsafe name"),
    "absolute": (bad(name="/etc/1.wav"), "unsafe name"),
    "backslashes": (bad(name="fan\\..\\1.wav"), "unsafe name"),
    "drive": (bad(name="C:/fan/1.wav"), "unsafe name"),
    "link": (bad(mode=0o120777, content=b"/etc/passwd"), "a link"),
    "encrypted": (bad(flags=1), "encrypted"),
    "bzip2": (bad(method=12, data=bz2.compress(wav(1))), r"not read here \(BZIP2\)"),
    "lzma": (bad(method=14, data=b"x" * 1000), r"not read here \(LZMA\)"),
    "unknown method": (bad(method=77, data=b"x" * 1000), r"not read here \(77\)"),
    "claims too much": (bad(size=1 << 40), "claims that .* bytes inflate to 1099511627776"),
    "claims 16 EiB": (bad(size=(1 << 64) - 1), "claims that .* bytes inflate to 18446744073709551615"),
    "a little too much": (bad(size=len(wav(1)) + 1), f"inflates to {len(wav(1))} and not to"),
    "a little too little": (bad(size=len(wav(1)) - 1), "inflates to more than|checksum"),
    "bomb": (bomb(), "inflates to more than"),
    "one byte more": (surplus(1), "inflates to more than"),
    "some bytes more": (surplus(300), "inflates to more than"),
    "stored, other size": (bad(method=STORED, size=100), "claims that .* bytes inflate to 100"),
    "checksum": (bad(crc32=12345), "checksum"),
    "not deflate": (bad(data=b"\xff" * 20_000), "damaged"),
    "cut short": (bad(data=Entry("", wav(1)).body()[:-50]), "inflates to"),
    "stored size too large": (bad(stored=10_000_000), "claims that 10000000 bytes inflate to"),
    "overlap": (bad(stored=30_500), "overlaps with the next"),
}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Return the table of the good clips alone."""
    folder = tmp_path_factory.mktemp("right")
    good = pack(folder / "6_dB_fan.zip", {name: data for name, data in clips().items() if name != BAD})
    assert featurize_here(good, "--output", folder / "out") == 0
    return open_table(folder / "out")


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_member_is_a_bad_clip_and_its_neighbours_are_right(trick, right, tmp_path, capsys):
    member, reason = HOSTILE[trick]
    archive = write(tmp_path / "raw" / "6_dB_fan.zip", with_bad(member))
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    assert "1: " in capsys.readouterr().out
    table = open_table(tmp_path / "out")
    status = table.status.values
    [which] = [index for index, text in enumerate(status) if text != "ok"]
    assert re.search(reason, status[which]), status[which]
    for number in (0, 2, 3):
        ours, theirs = (t.features.values[numbers_of(t) == number] for t in (table, right))
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(os.listdir(tmp_path)) == ["out", "raw"]


def numbers_of(table):
    """Return the number of the clip of each row; -9 for rows of bad clips."""
    of_clip = np.where(table.status.values == "ok", table.number.values, -9)
    return of_clip[table.row_clip.values]


def test_two_recordings_of_one_name_are_a_bad_clip(tmp_path):
    archive = write(tmp_path / "a.zip", [*entries(), Entry(BAD, wav(99))])
    found = {clip.path.rpartition("/")[2]: clip.problem for clip in find_clips([str(archive)])}
    assert len(found) == 4
    assert "several recordings of this name" in found["00000001.wav"]
    assert found["00000000.wav"] == ""


def test_members_that_share_their_bytes_are_refused(tmp_path):
    inner = entries()[0]
    quilt = [inner, *(Entry(f"{index}.wav", inner.content, offset=0) for index in range(100))]
    problems = [clip.problem for clip in find_clips([str(write(tmp_path / "quilt.zip", quilt))])]
    assert len(problems) == 101
    assert sum("overlaps" in problem for problem in problems) == 100


def test_a_local_header_that_is_damaged_is_a_bad_clip(tmp_path):
    archive = write(tmp_path / "a.zip", entries())
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\3\4", 10)] ^= 1
    archive.write_bytes(data)
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    status = open_table(tmp_path / "out").status.values
    assert [text == "ok" for text in status] == [True, False, True, True]
    assert status[1] == "the archive is damaged where this recording should begin"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a zip file"), (b"no archive at all", "not a zip file"), (b"PK\3\4" + b"x" * 1000, "not a zip file")],
)
def test_a_file_that_is_no_archive_is_named(tmp_path, capsys, content, said):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "6_dB_fan.zip").write_bytes(content)
    for source in (tmp_path / "raw", tmp_path / "raw" / "6_dB_fan.zip"):
        assert featurize_here(source, "--output", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'raw' / '6_dB_fan.zip'}: not a whole zip archive" in error
        assert said in error
        assert "python -m jobs.fetch" in error


def test_an_archive_that_is_cut_off_anywhere_is_an_error(tmp_path):
    whole = write(tmp_path / "whole.zip", [Entry(f"{index}.wav", wav(index, 500)) for index in range(3)]).read_bytes()
    cut = tmp_path / "cut.zip"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"cut\.zip: not a whole zip archive"):
            find_clips([str(cut)])


def test_a_directory_that_claims_to_be_huge_is_refused(tmp_path):
    archive = tmp_path / "huge.zip"
    with archive.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, 3 << 30, 0, 0))
    with pytest.raises(SourceError, match=r"huge\.zip.*directory claims to be 3,221,225,472 bytes"):
        find_clips([str(archive)])


def test_an_empty_archive_holds_nothing(tmp_path):
    assert find_clips([str(pack(tmp_path / "a.zip", {}))]) == []


def test_a_folder_may_be_called_zip(tmp_path):
    write_machines(tmp_path / "x.zip", 2)
    assert len(find_clips([str(tmp_path)])) == 2


def read_all(clip):
    with next(iter(reading.open_all([clip.place], reading.DEFAULT_READS)))() as file:
        return file.read()


def test_a_recording_is_read_whole_where_the_system_returns_fewer_bytes_at_a_time(tmp_path, monkeypatch):
    class Mounted(io.FileIO):
        def read(self, size=-1):
            return super().read(min(size, 10_000))

        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:10_000])

    def open_mounted(path, _mode, buffering=-1):
        return Mounted(path) if buffering == 0 else io.BufferedReader(Mounted(path))

    found = find_clips([str(pack(tmp_path / "6_dB_fan.zip", clips(2)))])
    monkeypatch.setattr(reading, "open", open_mounted, raising=False)
    assert [read_all(clip) for clip in found] == list(clips(2).values())


def test_flipped_bytes_are_detected(tmp_path):
    rng = random.Random(3)
    members = {f"{index}.wav": wav(index, 300) for index in range(3)}
    whole = write(tmp_path / "whole.zip", [Entry(*member) for member in members.items()]).read_bytes()
    flipped, n_found, n_good = tmp_path / "flipped.zip", 0, 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flipped.write_bytes(data)
        try:
            found = [clip for clip in find_clips([str(flipped)]) if not clip.problem]
            good = [read_all(clip) for clip in found]
        except (SourceError, AudioError):
            n_found += 1
            continue
        n_good += 1
        assert set(good) <= set(members.values())
    assert n_found > 150
    assert n_good > 5


@pytest.fixture
def large(monkeypatch):
    """Let recordings of more than a kilobyte be too large to be read whole."""
    monkeypatch.setattr(reading, "MOST_WHOLE", 1000)


def write_flac(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-3000, 3000, 48_000).astype(np.int16)
    soundfile.write(path, samples, 16_000)
    return path


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_large_members_are_inflated_as_they_are_read(tmp_path, method, suffix):
    for index in range(3):
        write_flac(tmp_path / "unpacked" / f"{index}{suffix}", index)
    archive = pack_folder(tmp_path / "a.zip", tmp_path / "unpacked", method)
    assert_same_features(archive, tmp_path / "unpacked", tmp_path)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("trick", [trick for trick in HOSTILE if trick != "overlap"])
def test_large_hostile_members_are_bad_clips_too(trick, tmp_path):
    member, _ = HOSTILE[trick]
    assert featurize_here(write(tmp_path / "a.zip", with_bad(member)), "--output", tmp_path / "out") == 3
    assert sorted(open_table(tmp_path / "out").status.values == "ok") == [False, True, True, True]


@pytest.mark.usefixtures("large")
def test_the_checksum_of_a_large_member_covers_what_comes_after_the_samples(tmp_path):
    content = wav(1) + b"LIST" + struct.pack("<L", 100) + bytes(100)
    member = Entry(BAD, content[:-1] + b"!", crc32=zlib.crc32(content))
    assert featurize_here(write(tmp_path / "a.zip", with_bad(member)), "--output", tmp_path / "out") == 3
    assert "checksum" in open_table(tmp_path / "out").status.values[1]


@pytest.mark.usefixtures("large")
def test_damage_in_a_compressed_recording_is_found(tmp_path):
    flac = write_flac(tmp_path / "a.flac", 3).read_bytes()
    body = bytearray(Entry("", flac).body())
    body[len(body) // 2] ^= 0xFF
    archive = write(tmp_path / "a.zip", [Entry("a.flac", flac, data=bytes(body)), Entry("b.wav", wav(2))])
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    bad_one, good_one = open_table(tmp_path / "out").status.values
    assert bad_one != "ok"  # libsndfile may notice before the checksum does, with a message that depends on its version
    assert good_one == "ok"


def test_a_member_can_be_read_from_any_position(tmp_path):
    content = random.Random(1).randbytes(300_000)
    [clip] = find_clips([str(pack(tmp_path / "a.zip", {"a.wav": content}))])
    with reading.open_part(clip.place, Access()) as file:
        for offset, length in ((200_000, 50_000), (5, 10), (299_990, 100), (0, 300_000), (100, 0), (400_000, 5)):
            assert file.seek(offset) == offset
            assert file.read(length) == content[offset : offset + length]
        assert file.seek(-7, os.SEEK_END) == 299_993
        assert file.read() == content[-7:]


MEMORY = textwrap.dedent(
    """
    import sys
    from jobs.featurize import main
    from tests.helpers.memory import peak_resident_bytes
    before = peak_resident_bytes()
    status = main([sys.argv[1], "--output", sys.argv[2], "--scheduler", "sync", "--quiet", "--split", "none"])
    print(status, (peak_resident_bytes() - before) >> 20)
    """
)


@pytest.mark.slow
def test_the_memory_for_a_large_archive_is_bounded(tmp_path):
    content = wav(1, 320_000, n_channels=8)
    compressed = Entry("", content).body()
    archive = write(tmp_path / "large.zip", [Entry(f"{index}.wav", content, data=compressed) for index in range(80)])
    assert archive.stat().st_size > 250 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, archive, tmp_path / "out"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    status, mib = map(int, done.stdout.split())
    assert status == 0
    assert mib < 200
    archive.unlink()


def test_a_bomb_takes_little_memory(tmp_path):
    [clip] = find_clips([str(write(tmp_path / "a.zip", [bomb(200_000, mib=50)]))])
    assert clip.problem == ""
    with allocates_at_most(20 << 20), pytest.raises(AudioError, match="inflates to more than"):
        read_all(clip)


def test_files_are_closed(tmp_path):
    archive = write(tmp_path / "a.zip", with_bad(bad(crc32=1)))
    assert featurize_here(archive, "--output", tmp_path / "warm") == 3
    before = psutil.Process().num_fds()
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    assert psutil.Process().num_fds() == before


def test_names_that_would_write_to_the_terminal_are_shown_harmless(tmp_path, capsys):
    archive = write(tmp_path / "a.zip", [Entry("fan\x1b[31m/red.wav", b"no sound"), *entries()])
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "red.wav" in said


def test_an_archive_that_was_repaired_is_read_again_where_it_was_bad(tmp_path):
    archive = write(tmp_path / "6_dB_fan.zip", entries())
    whole = archive.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0xFF
    archive.write_bytes(damaged)
    assert featurize_here(archive, "--output", tmp_path / "out") == 3
    archive.write_bytes(whole)
    assert featurize_here(archive, "--output", tmp_path / "out") == 0
    assert featurize_here(archive, "--output", tmp_path / "new") == 0
    assert chunks(tmp_path / "out") == chunks(tmp_path / "new")


def test_an_archive_that_was_written_again_with_the_same_content_is_not_read_again(tmp_path, capsys):
    archive = write(tmp_path / "6_dB_fan.zip", entries())
    assert featurize_here(archive, "--output", tmp_path / "out") == 0
    os.utime(archive, (1, 1))
    assert featurize_here(archive, "--output", tmp_path / "out") == 0
    assert "there was nothing to compute" in capsys.readouterr().out


def test_data_padded_to_more_than_it_inflates_to_is_refused_before_it_is_read(tmp_path):
    member = bad(data=Entry("", wav(1)).body() + bytes(10_000_000))
    found = find_clips([str(write(tmp_path / "a.zip", [member]))])
    assert "claims that" in found[0].problem


def test_an_unsafe_name_in_another_field_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member, other = zipfile.ZipInfo("safe.wav"), b"../../up.wav"
        member.extra = struct.pack("<2HBL", 0x7075, 5 + len(other), 1, zlib.crc32(b"safe.wav")) + other
        archive.writestr(member, wav(1))
    [clip] = find_clips([str(tmp_path / "a.zip")])
    assert ("unsafe name" in clip.problem) == (".." in clip.path)


def test_seeking_back_a_little_does_not_inflate_all_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_WHOLE", 1000)
    rewind, n_rewinds = zips._InflatedFile._rewind, []
    monkeypatch.setattr(zips._InflatedFile, "_rewind", lambda self: (n_rewinds.append(1), rewind(self)))
    (tmp_path / "made").mkdir()
    soundfile.write(tmp_path / "made" / "a.flac", np.random.default_rng(1).uniform(-0.5, 0.5, 1_500_000), 16_000)
    archive = pack_folder(tmp_path / "a.zip", tmp_path / "made")
    assert featurize_here(archive, "--output", tmp_path / "out") == 0
    assert len(n_rewinds) < 15


def test_backslashes_between_folders_are_those_of_windows(tmp_path):
    folder = tmp_path / "raw" / "6_dB_fan"
    write_machines(folder, 8, n_samples=50)
    entries = [
        Entry(str(path.relative_to(folder)).replace("/", "\\"), path.read_bytes()) for path in folder.rglob("*.wav")
    ]
    clips = find_clips([str(write(tmp_path / "6_dB_fan.ZIP", entries))])
    expected = find_clips([str(folder)])
    assert [clip.path.partition(".ZIP/")[2] for clip in clips] == [
        str(Path(clip.path).relative_to(folder)) for clip in expected
    ]
    assert [clip.identity.machine_id for clip in clips] == [clip.identity.machine_id for clip in expected]
    for clip, other in zip(clips, expected, strict=True):
        assert clip.problem == ""
        assert read_all(clip) == Path(other.path).read_bytes()


def test_two_recordings_of_one_name_with_backslashes_are_a_problem(tmp_path):
    first, other = wav(1, 100), wav(2, 200)
    archive = write(tmp_path / "a.zip", [Entry("s\\a.wav", first), Entry("s/a.wav", other)])
    [clip] = find_clips([str(archive)])
    assert clip.problem == "there are several recordings of this name in the archive"
