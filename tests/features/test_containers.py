"""Whatever a file is wrapped in: the samples are those that libsndfile decodes of the whole file by its name."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import mimii
from mimii.features import sndfile, stack_frames
from mimii.features.containers import FileView
from mimii.features.decode import count_samples, read_header, read_plain_header
from mimii.features.sndfile import UNKNOWN_LENGTH
from mimii.storage.problems import AudioError
from tests.helpers.archives import pack_folder
from tests.helpers.odd_files import (
    ID3V1,
    MPEG_DELAY,
    RATE,
    decoded_whole,
    encoded,
    flac_without_length,
    id3v2,
    mp3,
    mp3_without_length,
    noise,
    odd_recordings,
    samples_of,
    wav,
)
from tests.helpers.recordings import read_channel
from tests.helpers.servers import client

SUFFIXES = {
    **dict.fromkeys(("WAV", "WAVEX", "RF64"), "wav"),
    "MP3": "mp3",
    "FLAC": "flac",
    "OGG": "ogg",
    "AIFF": "aiff",
    "AU": "au",
    "CAF": "caf",
    "W64": "w64",
}
"""Of the containers whose files are taken from a folder."""


def writable():
    """Return every container and codec that libsndfile writes, with a sample rate and a number of channels it takes."""
    for container in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(container) if container not in ("RAW", "SD2") else ():
            for rate, n_channels in ((RATE, 2), (RATE, 1), (48_000, 2), (8000, 1)):
                samples = np.random.default_rng(len(subtype)).uniform(-0.5, 0.5, (15_011, n_channels))
                try:
                    data = encoded(samples, container, subtype, rate)
                    soundfile.read(io.BytesIO(data))
                except (soundfile.LibsndfileError, ValueError):
                    continue
                yield pytest.param(container, data, id=f"{container}-{subtype}")
                break


WRITABLE = list(writable())
every_codec = pytest.mark.parametrize(("container", "data"), WRITABLE)


def name(folder, container):
    return folder / f"a.{SUFFIXES.get(container, 'wav')}"


def read_all(data, channel=0):
    return read_channel(io.BytesIO(data), channel)[1]


@every_codec
@pytest.mark.parametrize("block_bytes", [1 << 9, 12_344, 1 << 17])
def test_blocks_of_any_length_are_the_whole_file_bit_for_bit(container, data, block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(sndfile, "_BLOCK_BYTES", block_bytes)
    expected = decoded_whole(data, name(tmp_path, container))
    assert len(expected) >= 15_011
    channel = expected.shape[1] - 1
    assert read_all(data, channel).tobytes() == expected[:, channel].tobytes()


@pytest.mark.parametrize("data", [pytest.param(one.values[1], id=one.id) for one in WRITABLE])
@pytest.mark.parametrize("tags", [id3v2(0), id3v2(1001), id3v2(300) + id3v2(70_000)], ids=["empty", "one", "two"])
def test_a_tag_in_front_changes_nothing(data, tags):
    header, samples = read_channel(io.BytesIO(tags + data), 0)
    expected_header, expected = read_channel(io.BytesIO(data), 0)
    assert (header.n_samples, header.sample_rate) == (expected_header.n_samples, expected_header.sample_rate)
    assert samples.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("container", "data"), [one for one in WRITABLE if one.values[0] in SUFFIXES])
@pytest.mark.parametrize("change", ["tag behind", "doubled", "cut"])
def test_what_is_behind_or_missing_gives_what_libsndfile_gives_or_a_reason(container, data, change, tmp_path):
    changed = {"tag behind": data + ID3V1, "doubled": data * 2, "cut": data[: len(data) * 3 // 5]}[change]
    try:
        expected = decoded_whole(changed, name(tmp_path, container))[:, 0]
    except soundfile.LibsndfileError:  # also of a whole WAV file with another one behind it
        expected = read_all(data)
    try:
        samples = read_all(changed)
    except AudioError as error:
        # What is whole is not refused, unless what is behind it is taken for samples, and these are no numbers.
        assert change == "cut" or not np.isfinite(expected).all(), error  # noqa: PT017
        return
    assert samples.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", odd_recordings())
def test_recordings_as_people_have_them_have_all_of_their_samples(name):
    data, expected = odd_recordings()[name]
    samples = read_all(data)
    assert samples.tobytes() == expected.astype(np.float32).tobytes()
    header = read_header(io.BytesIO(data))
    count = count_samples(io.BytesIO(data)) if header.n_samples == UNKNOWN_LENGTH else header.n_samples
    assert (count, header.sample_rate) == (len(expected), RATE)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("loudness", ["even", "rising", "falling"])
@pytest.mark.parametrize(
    "around", [(b"", b""), (id3v2(333), ID3V1), (bytes(512), b""), (b"junk" * 77, ID3V1)], ids=repr
)
def test_an_mp3_without_its_length_is_decoded_to_its_end(mode, loudness, around):
    ramp = np.linspace(0.001, 1, 48_000, dtype=np.float32)
    scale = {"even": np.ones(48_000, np.float32), "rising": ramp, "falling": ramp[::-1]}[loudness]
    sound = (0.1 * np.random.default_rng(5).standard_normal(48_000)).astype(np.float32) * scale
    data = around[0] + mp3_without_length(sound, mode) + around[1]
    assert read_header(io.BytesIO(data)).n_samples == UNKNOWN_LENGTH
    samples = read_all(data)
    assert len(samples) == count_samples(io.BytesIO(data)) == 43 * 1152
    # The same with its length: the decoder then leaves out what it adds in front and behind.
    trimmed = soundfile.read(io.BytesIO(mp3(sound, mode)), dtype="float32")[0]
    assert len(trimmed) == 48_000
    np.testing.assert_allclose(samples[MPEG_DELAY : MPEG_DELAY + 48_000], trimmed, rtol=0, atol=1e-5)


def test_flac_of_unknown_length_with_a_tag_behind_is_decoded_to_its_end():
    pcm = noise(3, 30_000)
    data = flac_without_length(encoded(pcm, "FLAC", "PCM_16"))
    assert np.array_equal(read_all(data + ID3V1), samples_of(pcm))


def test_a_damaged_flac_of_unknown_length_is_refused_with_where():
    data = bytearray(flac_without_length(encoded(noise(3, 60_000), "FLAC", "PCM_16")))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    try:
        samples = read_all(bytes(data))
    except AudioError as error:
        assert "damaged" in str(error)  # noqa: PT017  libFLAC gives up, or fills the gap with silence
    else:
        assert len(samples) > 50_000


@pytest.mark.parametrize("missing", [1, 2, 7])
def test_a_header_that_promises_a_few_frames_more_is_forgiven(missing):
    pcm = noise(4, 1000)
    whole = wav(pcm)
    assert np.array_equal(read_all(whole[:-missing]), samples_of(pcm)[: (2000 - missing) // 2])


@pytest.mark.parametrize("missing", [10, 1000, 1999])
def test_a_header_that_promises_more_is_truncated(missing):
    with pytest.raises(AudioError, match=f"truncated: the header promises 2000 .* holds {2000 - missing}"):
        read_all(wav(noise(4, 1000))[:-missing])


@pytest.mark.parametrize("claimed", [0x7F000000, 0x90000000, 0xF0000000])
def test_a_large_length_that_no_program_writes_for_an_unknown_one_is_truncated(claimed):
    with pytest.raises(AudioError, match="truncated"):
        read_all(wav(noise(4, 1000), claimed + 36, claimed))


@pytest.mark.parametrize("behind", [b"", b"LIST\x04\0\0\0INFO", ID3V1])
@pytest.mark.parametrize("bits", [16, 32])
def test_a_recording_of_no_samples_has_none(behind, bits):
    empty = wav(noise(1, 0), 36 + len(behind), 0, bits) + behind
    assert len(read_all(empty)) == 0


@settings(max_examples=200)
@given(
    data=st.binary(min_size=1, max_size=300),
    start=st.integers(0, 100),
    place=st.integers(0, 200),
    other=st.binary(max_size=9),
    reads=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 60)), max_size=6),
)
def test_a_view_is_the_rest_of_a_file_with_other_bytes_in_it(data, start, place, other, reads):
    start = min(start, len(data))
    expected = bytearray(data[start:])
    for index, value in enumerate(other):
        if place + index < len(expected):
            expected[place + index] = value
    view = FileView(io.BytesIO(data), start, {place: other})
    for where, count in reads:
        view.seek(where)
        assert view.read(count) == bytes(expected[where : where + count])


@pytest.mark.parametrize("place", ["disk", "archive", "s3"])
def test_a_table_has_all_rows_of_recordings_as_people_have_them(place, tmp_path, request):
    recordings = {name: (data, expected.astype(np.float32)) for name, (data, expected) in odd_recordings().items()}
    for mode in ("CONSTANT", "VARIABLE"):
        data = mp3_without_length(samples_of(noise(20, 60_000)), mode)
        recordings[f"{mode}.mp3"] = (bytes(300) + data, read_all(data))
    source = sources_of({name: data for name, (data, _) in recordings.items()}, place, tmp_path, request)
    clips = mimii.find_recordings(source)
    assert {clip.path.rpartition("/")[2]: clip.problem for clip in clips} == dict.fromkeys(recordings, "")
    table = str(tmp_path / "out.zarr")
    mimii.featurize(mimii.plan_table(clips, split="none"), table)
    opened = mimii.open_table(table)
    for clip in range(len(clips)):
        name = str(opened.path.values[clip]).rpartition("/")[2]
        expected = stack_frames(mimii.log_mel(recordings[name][1]), 5)
        rows = opened.features.values[opened.row_clip.values == clip]
        np.testing.assert_array_equal(rows, expected, err_msg=name)
    assert mimii.verify(table, against=clips, sample=len(clips)).is_right


def sources_of(files, place, folder, request):
    """Put files on a disk, in an archive or on S3; return where."""
    (folder / "raw").mkdir()
    for file, data in files.items():
        (folder / "raw" / file).write_bytes(data)
    if place == "archive":
        return str(pack_folder(folder / "raw.zip", folder / "raw"))
    if place == "s3":
        server = request.getfixturevalue("moto")
        request.getfixturevalue("use")(server)
        client(server).create_bucket(Bucket="odd")
        for file, data in files.items():
            client(server).put_object(Bucket="odd", Key=f"raw/{file}", Body=data)
        return "s3://odd/raw"
    return str(folder / "raw")


def chunk(name, content):
    return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


INFO = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf58.29.100\0"))
FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4)
EXTENSIBLE += bytes.fromhex("0100000000001000800000aa00389b71")
DATA = chunk(b"data", noise(8, 900).tobytes())
RF64 = encoded(noise(8, 900), "RF64", "PCM_16")


def riff(*chunks, magic=b"RIFF", form=b"WAVE"):
    body = form + b"".join(chunks)
    return magic + len(body).to_bytes(4, "little") + body


AS_PROGRAMS_WRITE = {
    "sox, arecord": riff(FORMAT, DATA),
    "ffmpeg": riff(FORMAT, INFO, DATA),
    "ffmpeg, with room for RF64": riff(chunk(b"JUNK", bytes(28)), FORMAT, DATA),
    "MIMII": riff(chunk(b"fmt ", EXTENSIBLE), chunk(b"fact", (900).to_bytes(4, "little")), DATA),
    "18 bytes of format": riff(FORMAT[:4] + b"\x12\0\0\0" + FORMAT[8:] + b"\0\0", DATA),
    "Audacity": riff(FORMAT, DATA, INFO, chunk(b"id3 ", b"ID3\3" + bytes(40))),
    "a field recorder": riff(chunk(b"bext", bytes(602)), chunk(b"iXML", b"<BWFXML/>"), FORMAT, DATA),
    "Reaper": riff(FORMAT, DATA, chunk(b"cue ", bytes(4)), chunk(b"LIST", b"adtl" + chunk(b"labl", b"\1\0\0\0one\0"))),
    "RF64": RF64,
}


@pytest.mark.parametrize("name", AS_PROGRAMS_WRITE)
def test_16_bit_wav_as_programs_write_it_needs_no_decoder(name, tmp_path):
    data = AS_PROGRAMS_WRITE[name]
    header = read_plain_header(io.BytesIO(data))
    assert (header.n_samples, header.sample_rate) == (900, RATE)
    assert np.array_equal(read_all(data), samples_of(noise(8, 900)))
    assert np.array_equal(decoded_whole(data, tmp_path / "a.wav")[:, 0], samples_of(noise(8, 900)))


IN_DOUBT = {
    "another form": riff(FORMAT, DATA, form=b"W\x80VE"),
    "AIFF as a form": riff(FORMAT, DATA, form=b"AIFF"),
    "no format": riff(DATA),
    "format behind": riff(DATA, FORMAT),
    "two formats": riff(FORMAT, FORMAT, DATA),
    "samples twice": riff(FORMAT, DATA, DATA),
    "body twice": riff(FORMAT, DATA, DATA[8:]),
    "doubled body, as a file": riff(FORMAT, DATA) + DATA[8:],
    "a list that is not whole": riff(FORMAT, chunk(b"LIST", b"INFOISFT\x10\0\0\0abc\0"), DATA),
    "fact without a number": riff(FORMAT, chunk(b"fact", b""), DATA),
    "PEAK of the wrong size": riff(FORMAT, chunk(b"PEAK", bytes(3)), DATA),
    "an odd chunk in RF64": RF64[:48] + chunk(b"PAD ", b"odd") + RF64[48:],
    "RF64 without lengths": riff(FORMAT, DATA, magic=b"RF64"),
    "another name for a file": riff(FORMAT, DATA, magic=b"RIFx"),
    "too many channels": riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1025, RATE, 0, 2050, 16)), DATA),
    "extensible, as plain PCM": riff(chunk(b"fmt ", b"\1\0" + EXTENSIBLE[2:]), DATA),
}


@pytest.mark.parametrize("name", IN_DOUBT)
def test_in_doubt_libsndfile_decides(name, tmp_path):
    data = IN_DOUBT[name]
    assert read_plain_header(io.BytesIO(data)) is None
    try:
        expected = decoded_whole(data, tmp_path / "a.wav")[:, 0]
    except soundfile.LibsndfileError:
        with pytest.raises(AudioError):
            read_all(data)
    else:
        assert read_all(data).tobytes() == expected.tobytes()


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_bw64_is_rf64_by_another_name(subtype, tmp_path):
    data = encoded(samples_of(noise(9, 3000)), "RF64", subtype)
    assert read_all(b"BW64" + data[4:]).tobytes() == decoded_whole(data, tmp_path / "a.wav")[:, 0].tobytes()


@pytest.mark.parametrize("length", [0, 2**64 - 1, 2**63])
def test_an_rf64_file_whose_length_was_never_written_is_read_to_its_end(length):
    pcm = noise(6, 3000)
    data = bytearray(encoded(pcm, "RF64", "PCM_16"))
    at = data.index(b"ds64") + 16
    assert int.from_bytes(data[at : at + 8], "little") == 6000
    data[at : at + 8] = length.to_bytes(8, "little")
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff" * 4
    assert np.array_equal(read_all(bytes(data)), samples_of(pcm))


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "PCM_16"])
@pytest.mark.parametrize("length", [0, 2**64 - 1])
def test_rf64_of_any_kind_whose_length_was_never_written_is_read_to_its_end(subtype, length):
    data = bytearray(encoded(samples_of(noise(7, 3000)), "RF64", subtype))
    expected = read_all(bytes(data))
    at, place = data.index(b"ds64") + 16, data.index(b"data") + 4
    data[at : at + 8], data[place : place + 4] = length.to_bytes(8, "little"), b"\xff" * 4
    assert np.array_equal(read_all(bytes(data)), expected)


@pytest.mark.parametrize("name", [b"RIFF", b"smpl", b"iXML", b"LIST"])
@pytest.mark.parametrize("bits", [16, 32])
def test_what_is_behind_an_empty_recording_is_not_taken_for_samples(name, bits):
    assert len(read_all(wav(noise(1, 0), 36, 0, bits) + name + b"\x04\0\0\0abcd" * 20)) == 0


def test_an_error_of_the_one_who_reads_is_not_taken_for_a_damaged_recording():
    with pytest.raises(TypeError, match="mine"), sndfile.open_sound(io.BytesIO(encoded(noise(1, 9), "FLAC", "PCM_16"))):
        raise TypeError("mine")  # noqa: EM101


@pytest.mark.parametrize("bits", [16, 32])
def test_a_stream_of_more_than_4_gib_is_read_whole_or_refused(tmp_path, bits):
    path, size = tmp_path / "long.wav", 2**32 + 4000
    path.write_bytes(wav(noise(1, 10), 0xFFFFFFFF, 0xFFFFFFFF, bits))
    with path.open("r+b") as file:
        file.truncate(size)  # the rest takes no room
        if bits == 16:
            assert read_header(file).n_samples == (size - 44) // 2
        else:
            with pytest.raises(AudioError, match=f"{size - 44} bytes are too many for a WAV file"):
                read_header(file)
