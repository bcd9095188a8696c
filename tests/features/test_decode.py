"""Bytes to one channel of samples: the same as libsndfile decodes, and a reason for all that cannot be used."""

import errno
import io
import struct
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mimii.features.decode import BLOCK_SAMPLES, read_blocks, read_header
from mimii.features.sndfile import encode_flac
from mimii.recordings.synthesis import wav_bytes
from mimii.storage.problems import AudioError
from tests.helpers.recordings import noise, read_channel

KINDS = [
    *(("WAV", kind, "FILE") for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("WAVEX", kind, "FILE") for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("WAV", kind, "BIG") for kind in ("PCM_16", "PCM_24", "FLOAT")),
    *(("RF64", kind, "FILE") for kind in ("PCM_16", "PCM_24", "FLOAT")),
    *(("W64", kind, "FILE") for kind in ("PCM_16", "FLOAT")),
    *(("FLAC", kind, "FILE") for kind in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("AIFF", kind, "FILE") for kind in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT")),
    *(("AU", kind, "FILE") for kind in ("PCM_16", "PCM_32", "FLOAT", "ULAW")),
    ("AU", "PCM_16", "LITTLE"),
    *(("CAF", kind, "FILE") for kind in ("PCM_16", "PCM_24", "DOUBLE")),
    ("WAV", "IMA_ADPCM", "FILE"),
    ("WAV", "MS_ADPCM", "FILE"),
    ("OGG", "VORBIS", "FILE"),
    ("OGG", "OPUS", "FILE"),
    ("MP3", "MPEG_LAYER_III", "FILE"),
]
STEREO_ONLY = {"IMA_ADPCM", "MS_ADPCM", "MPEG_LAYER_III"}


def sound(seed, n_samples=2500, n_channels=3):
    """Return noise in float64, another in each channel, within full scale."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (n_samples, n_channels))


def encoded(samples, file_format, subtype, endian="FILE", sample_rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=file_format, subtype=subtype, endian=endian)
    return file.getvalue()


def chunk(name, content):
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def plain_format(n_channels=1, bits=16, tag=1, sample_rate=16_000):
    align = n_channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, n_channels, sample_rate, sample_rate * align, align, bits))


def decode(data, channel=0):
    return read_channel(io.BytesIO(data), channel)[1]


def header_of(data):
    return read_header(io.BytesIO(data))


def assert_decoded_as_by_libsndfile(data):
    expected, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert len(expected) > 0
    for channel in range(expected.shape[1]):
        header, samples = read_channel(io.BytesIO(data), channel)
        assert (header.sample_rate, header.n_channels) == (sample_rate, expected.shape[1])
        assert header.n_samples == len(samples) == len(expected)
        assert samples.dtype == np.float32
        assert samples.tobytes() == expected[:, channel].tobytes()


@pytest.mark.parametrize(("file_format", "subtype", "endian"), KINDS)
def test_every_kind_of_file_is_decoded_bit_for_bit_as_by_libsndfile(file_format, subtype, endian):
    n_channels = 2 if subtype in STEREO_ONLY else 3
    rate = 48_000 if subtype == "OPUS" else 16_000
    data = encoded(sound(len(subtype), n_channels=n_channels), file_format, subtype, endian, rate)
    assert_decoded_as_by_libsndfile(data)


@pytest.mark.parametrize("n_channels", [1, 2, 8, 31])
@pytest.mark.parametrize("n_samples", [1, 2, 4095, 70_001])
def test_16_bit_wav_of_any_shape_is_decoded_bit_for_bit(n_channels, n_samples):
    assert_decoded_as_by_libsndfile(wav_bytes(noise(n_samples, n_samples, n_channels)))


def test_16_bit_samples_span_minus_one_to_almost_one():
    samples = np.array([-32768, -1, 0, 1, 32767], np.int16)[:, np.newaxis]
    assert decode(wav_bytes(samples)).tolist() == [-1, -1 / 32768, 0, 1 / 32768, 32767 / 32768]


@settings(max_examples=50)
@given(
    n_samples=st.integers(1, 400),
    n_channels=st.integers(1, 9),
    rate=st.sampled_from([8000, 16_000, 44_100, 192_000]),
    kind=st.sampled_from([("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "PCM_16"), ("AIFF", "PCM_16")]),
)
def test_any_number_of_samples_channels_and_any_rate_is_decoded_bit_for_bit(n_samples, n_channels, rate, kind):
    assert_decoded_as_by_libsndfile(encoded(sound(n_samples, n_samples, n_channels), *kind, sample_rate=rate))


def test_the_files_position_does_not_matter():
    samples = noise(5, 100)
    file = io.BytesIO(wav_bytes(samples))
    file.seek(77)
    first = read_channel(file, 0)[1]
    assert np.array_equal(first, read_channel(file, 0)[1])
    assert np.array_equal(first, samples[:, 0] / np.float32(32768))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"JUNK", bytes(28))],
        [chunk(b"LIST", b"INFOISFT\x05\0\0\0abcd\0\0")],
        [chunk(b"odd ", b"12345")],
        [chunk(b"odd ", b"1"), chunk(b"odd ", b"123"), chunk(b"void", b"")],
        [chunk(b"fact", struct.pack("<I", 50)), chunk(b"cue ", bytes(4))],
        [chunk(b"bext", bytes(603))],
    ],
    ids=["junk", "list", "odd", "several odd", "fact", "bext"],
)
@pytest.mark.parametrize("before_format", [True, False])
def test_other_chunks_are_passed_over(chunks, before_format):
    samples = noise(11, 50, 2)
    data = chunk(b"data", samples.tobytes())
    after_format = () if before_format else tuple(chunks)
    first = tuple(chunks) if before_format else ()
    file = riff(*first, plain_format(2), *after_format, data, chunk(b"LIST", b"INFO"))
    assert_decoded_as_by_libsndfile(file)
    assert np.array_equal(decode(file, 1), samples[:, 1] / np.float32(32768))


def test_a_wav_written_to_a_pipe_has_all_samples_to_its_end():
    samples = noise(12, 77, 2)
    data = bytearray(riff(plain_format(2), chunk(b"data", samples.tobytes())))
    data[4:8] = data[40:44] = b"\xff" * 4
    header, found = read_channel(io.BytesIO(bytes(data)), 1)
    assert header.n_samples == 77
    assert np.array_equal(found, samples[:, 1] / np.float32(32768))


def test_bytes_that_are_no_whole_sample_at_the_end_are_ignored():
    samples = noise(13, 10, 2)
    data = riff(plain_format(2), chunk(b"data", samples.tobytes() + b"\x01\x02\x03"))
    assert np.array_equal(decode(data, 1), samples[:, 1] / np.float32(32768))


def test_a_header_tells_rate_channels_and_samples_without_the_samples():
    header = header_of(wav_bytes(noise(1, 123, 8), sample_rate=8000))
    assert (header.sample_rate, header.n_channels, header.n_samples) == (8000, 8, 123)


def test_a_44_byte_header_without_samples_is_no_error():
    data = riff(plain_format(), chunk(b"data", b""))
    assert len(data) == 44
    header, samples = read_channel(io.BytesIO(data), 0)
    assert (header.n_samples, samples.shape, samples.dtype) == (0, (0,), np.float32)


@pytest.mark.parametrize("kind", [("WAV", "FLOAT"), ("WAV", "PCM_24"), ("AIFF", "PCM_16")])
def test_a_file_without_samples_of_another_kind_is_no_error(kind):
    header, samples = read_channel(io.BytesIO(encoded(np.zeros((0, 2)), *kind)), 1)
    assert (header.n_samples, samples.shape, samples.dtype) == (0, (0,), np.float32)


def test_an_empty_file_is_refused():
    with pytest.raises(AudioError, match="empty file"):
        header_of(b"")


@pytest.mark.parametrize(
    "data",
    [b"not a sound\n" * 100, b"RIFF", b"RIFF\0\0\0\0WAVE", b"\0", b"RIFF\x24\0\0\0WAVEfmt ", bytes(5000), b"fLaC"],
    ids=["text", "four bytes", "no chunks", "one byte", "cut in fmt", "zeros", "flac magic"],
)
def test_what_is_not_audio_is_refused_with_a_reason(data):
    with pytest.raises(AudioError, match="not audio") as caught:
        header_of(data)
    assert len(str(caught.value)) > len("not audio, or damaged at its beginning (libsndfile: )")


def test_samples_before_the_format_are_refused():
    with pytest.raises(AudioError):
        header_of(riff(chunk(b"data", bytes(100)), plain_format()))


@pytest.mark.parametrize("kind", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_wav_is_refused(kind, kept):
    data = encoded(sound(1), "WAV", kind)
    with pytest.raises(AudioError, match="truncated"):
        header_of(data[: int(len(data) * kept)])


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.1])
def test_a_truncated_flac_is_refused(kept):
    data = encoded(sound(2, 50_000, 1), "FLAC", "PCM_16")
    with pytest.raises(AudioError):
        decode(data[: int(len(data) * kept)])


def flac_that_claims(n_samples, real=20_000):
    data = bytearray(encoded(sound(3, real, 1), "FLAC", "PCM_16"))
    # STREAMINFO begins at byte 8; the lower 36 bits of its bytes 10 to 17 are the number of samples.
    packed = int.from_bytes(data[18:26], "big")
    assert packed & (2**36 - 1) == real
    data[18:26] = (packed >> 36 << 36 | n_samples).to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("n_samples", [20_001, 21_000, 10**7, 2**36 - 1])
def test_a_flac_that_claims_too_many_samples_is_refused_without_the_memory(n_samples):
    data = flac_that_claims(n_samples)
    tracemalloc.start()
    try:
        with pytest.raises(AudioError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_flac_whose_claim_is_true_is_decoded():
    assert_decoded_as_by_libsndfile(flac_that_claims(20_000))


def test_a_flac_of_constant_sound_is_decoded_though_it_is_tiny():
    data = encoded(np.full((160_000, 8), 0.25), "FLAC", "PCM_16")
    assert len(data) < 20_000
    assert_decoded_as_by_libsndfile(data)


def huge_claims():
    wav = bytearray(wav_bytes(noise(1, 10)))
    wav[76:80] = struct.pack("<I", 0xFFFFFFF0)
    floats = bytearray(encoded(sound(1, 10), "WAV", "FLOAT"))
    at = floats.index(b"data") + 4
    floats[at : at + 4] = struct.pack("<I", 0x7FFFFFFF)
    aiff = bytearray(encoded(sound(1, 10), "AIFF", "PCM_16"))
    at = aiff.index(b"COMM") + 10
    aiff[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
    at = aiff.index(b"SSND") + 4
    aiff[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
    au = bytearray(encoded(sound(1, 10), "AU", "PCM_16"))
    au[8:12] = struct.pack(">I", 0x7FFFFFFF)
    caf = bytearray(encoded(sound(1, 10), "CAF", "PCM_16"))
    at = caf.index(b"data") + 4
    caf[at : at + 8] = struct.pack(">Q", 2**62)
    rf64 = bytearray(encoded(sound(1, 10), "RF64", "PCM_16"))
    at = rf64.index(b"ds64") + 16
    rf64[at : at + 8] = struct.pack("<Q", 2**60)
    channels = riff(plain_format(65_535 // 2), chunk(b"data", bytes(100)))
    long_chunk = riff(struct.pack("<4sI", b"fmt ", 0xFFFFFFFF) + bytes(100))
    files = [wav, floats, aiff, au, caf, rf64, channels, long_chunk]
    names = ["wav", "float wav", "aiff", "au", "caf", "rf64", "channels", "long chunk"]
    return [pytest.param(bytes(data), id=name) for data, name in zip(files, names, strict=True)]


@pytest.mark.parametrize("data", huge_claims())
def test_no_memory_is_set_aside_on_the_word_of_a_header(data):
    tracemalloc.start()
    try:
        try:
            samples = decode(data)
        except AudioError:
            samples = np.empty(0)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert len(samples) <= 30


def test_a_file_of_thousands_of_empty_chunks_ends_quickly():
    many = chunk(b"void", b"") * 200_000
    started = time.process_time()
    with pytest.raises(AudioError):
        header_of(riff(plain_format(), many))
    assert time.process_time() - started < 5


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")])
@pytest.mark.parametrize("channel", [2, 8, 1000])
def test_a_missing_channel_is_refused_by_number(kind, channel):
    with pytest.raises(AudioError, match=f"no channel {channel}: the recording has 2"):
        decode(encoded(sound(4, n_channels=2), *kind), channel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_samples_that_are_not_finite_are_refused(value, kind):
    samples = sound(5, n_channels=2)
    samples[1234, 1] = value
    data = encoded(samples, "WAV", kind)
    with pytest.raises(AudioError, match="NaN or infinite"):
        decode(data, 1)
    assert np.array_equal(decode(data, 0), samples[:, 0].astype(np.float32))


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_samples_beyond_full_scale_are_kept(kind):
    samples = sound(6) * 1000
    assert np.array_equal(decode(encoded(samples, "WAV", kind), 2), samples[:, 2].astype(np.float32))


# soundfile's callbacks print a traceback where libsndfile seeks to before the beginning of a damaged file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=150)
@given(
    kind=st.sampled_from(
        [("WAV", "PCM_16"), ("WAVEX", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("AIFF", "PCM_16")]
    ),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    kept=st.integers(0, 400),
)
def test_a_damaged_file_is_decoded_or_refused_but_nothing_else(kind, changes, kept):
    data = bytearray(encoded(sound(7, 40, 2), *kind))
    for position, value in changes:
        data[position % len(data)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            header, samples = read_channel(io.BytesIO(bytes(data[:kept])), 0)
        except AudioError:
            return
    assert samples.shape == (header.n_samples,)
    assert np.isfinite(samples).all()


def test_real_recordings_are_decoded_bit_for_bit(real_recordings):
    paths = sorted(real_recordings.rglob("*.wav"))
    assert paths
    for path in paths[::4]:
        expected = soundfile.read(path, dtype="float32")[0]
        with path.open("rb") as file:
            for channel in (0, 7):
                assert np.array_equal(read_channel(file, channel)[1], expected[:, channel])


def test_wav_files_from_other_programs_are_decoded_as_by_libsndfile(real_recordings):
    folder = Path(real_recordings).parent / "variety"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    paths = sorted(folder.rglob("*.wav"))
    assert paths
    differing = []
    for path in paths:
        try:
            assert_decoded_as_by_libsndfile(path.read_bytes())
        except (AssertionError, AudioError) as error:
            differing.append(f"{path.name}: {error}")
    assert not differing


@pytest.mark.parametrize(("name", "subtype"), [("long.wav", "PCM_16"), ("long.flac", "PCM_16"), ("long.wav", "FLOAT")])
def test_a_long_recording_comes_in_blocks(tmp_path, name, subtype):
    rng = np.random.default_rng(7)
    samples = rng.integers(-9000, 9000, (2 * BLOCK_SAMPLES + 4321, 2)) / 32768
    soundfile.write(tmp_path / name, samples, 16_000, subtype=subtype)
    with (tmp_path / name).open("rb") as file:
        header = read_header(file)
        blocks = [block[0] for block in read_blocks(file, header, [1])]
    assert all(0 < len(block) < BLOCK_SAMPLES + 2**17 for block in blocks)
    assert len(blocks) == 3
    np.testing.assert_array_equal(np.concatenate(blocks), samples[:, 1].astype(np.float32))


class _BrokenDisk(io.BytesIO):
    """Fails like a disk after the header has been read."""

    def read(self, size=-1):
        if self.tell() > 5000:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_an_error_of_the_disk_is_not_taken_for_damaged_audio():
    whole = io.BytesIO()
    soundfile.write(whole, noise(3, 60_000), 16_000, format="FLAC")
    with pytest.raises(OSError, match="Input/output error"):
        read_channel(_BrokenDisk(whole.getvalue()), 0)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("RF64", "PCM_16"), ("RF64", "FLOAT"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT")]
)
@pytest.mark.parametrize("lost", [100, 2000])
def test_a_truncated_recording_of_another_container_is_refused(kind, subtype, lost):
    whole = io.BytesIO()
    soundfile.write(whole, noise(9, 4000, 2), 16_000, format=kind, subtype=subtype)
    with pytest.raises(AudioError, match="truncated"):
        read_header(io.BytesIO(whole.getvalue()[:-lost]))


def test_a_truncated_big_endian_wav_is_refused():
    whole = io.BytesIO()
    soundfile.write(whole, noise(9, 4000, 2), 16_000, format="WAV", subtype="PCM_16", endian="BIG")
    assert whole.getvalue()[:4] == b"RIFX"
    with pytest.raises(AudioError, match="truncated"):
        read_header(io.BytesIO(whole.getvalue()[:-100]))


def test_a_long_length_of_rf64_is_taken_from_where_it_stands():
    whole = io.BytesIO()
    samples = noise(10, 4000, 2)
    soundfile.write(whole, samples, 16_000, format="RF64", subtype="PCM_16")
    _, read = read_channel(whole, 1)
    np.testing.assert_array_equal(read, samples[:, 1] / np.float32(32768))


def test_flac_keeps_the_sound_and_is_loud():
    samples = np.sin(np.arange(8000) / 7).astype(np.float32) / 1000
    found, sample_rate = soundfile.read(io.BytesIO(encode_flac(samples, 8000)))
    assert sample_rate == 8000
    assert np.corrcoef(found, samples)[0, 1] > 0.9999
    assert abs(found).max() == pytest.approx(0.9, abs=1e-3)


def test_silence_is_written_as_silence():
    found, _ = soundfile.read(io.BytesIO(encode_flac(np.zeros(100, np.float32), 16_000)))
    assert not found.any()


def test_a_sample_rate_that_flac_does_not_have_is_told():
    with pytest.raises(AudioError, match="FLAC does not take 768000 Hz"):
        encode_flac(np.zeros(100, np.float32), 768_000)
