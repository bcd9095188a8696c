"""Recordings as people have them: with tags, padding, lengths that were never written; and what is in them."""

import io
import struct

import numpy as np
import soundfile

RATE = 16_000
ID3V1 = b"TAG" + bytes(125)


def id3v2(n_bytes: int) -> bytes:
    """Return a tag of so many bytes behind its header, as players write it in front of a file."""
    length = bytes((n_bytes >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + length + b"T\xff\xfb\x90" * (n_bytes // 4) + b"\0" * (n_bytes % 4)


def encoded(samples: np.ndarray, container: str, subtype: str, rate: int = RATE, **how: object) -> bytes:
    """Return samples in a container and a codec of libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, **how)
    return file.getvalue()


def mp3(samples: np.ndarray, mode: str = "VARIABLE") -> bytes:
    """Return an MP3 with a frame that says how long it is."""
    return encoded(samples, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)


def mp3_without_length(samples: np.ndarray, mode: str = "VARIABLE") -> bytes:
    """Return the same without that frame, as recorders and pipes write it."""
    data = mp3(samples, mode)
    kbit = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[2] >> 4]
    n_bytes = 72 * kbit * 1000 // RATE + ((data[2] >> 1) & 1)
    assert b"Info" in data[:n_bytes] or b"Xing" in data[:n_bytes]
    return data[n_bytes:]


def damaged_mp3s(n_samples: int = 60_000) -> dict[str, bytes]:
    """Return MP3s by name over which the decoder complains on stderr: with a gap, and cut off behind their length."""
    gap = bytearray(mp3_without_length(samples_of(noise(70, n_samples))))
    gap[3000:3600] = bytes(600)
    return {"gap.mp3": bytes(gap), "cut.mp3": mp3(samples_of(noise(71, n_samples)))[:-3000]}


def flac_without_length(data: bytes) -> bytes:
    """Set the number of samples in STREAMINFO to 0: unknown (RFC 9639, 8.2)."""
    changed = bytearray(data)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def wav(samples: np.ndarray, riff_size: int | None = None, data_size: int | None = None, bits: int = 16) -> bytes:
    """Return a mono WAV of a plain header of 44 bytes, with any lengths in it."""
    body = samples.astype("<i2").tobytes() if bits == 16 else samples.astype("<f4").tobytes()
    data_size = len(body) if data_size is None else data_size
    riff_size = len(body) + 36 if riff_size is None else riff_size
    tag, align = (1, 2) if bits == 16 else (3, 4)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 1, RATE, RATE * align, align, bits)
    return b"RIFF" + struct.pack("<I4s", riff_size, b"WAVE") + form + struct.pack("<4sI", b"data", data_size) + body


def noise(seed: int, n_samples: int) -> np.ndarray:
    """Return noise of 16 bits, another for each seed."""
    return np.random.default_rng(seed).integers(-6000, 6000, n_samples).astype(np.int16)


def samples_of(pcm: np.ndarray) -> np.ndarray:
    """Return 16-bit samples as they are decoded: full scale is 1."""
    return pcm / np.float32(32768)


def decoded_whole(data: bytes, path: object) -> np.ndarray:
    """Write a file, and decode it by its name, all at once; shape (n_samples, n_channels)."""
    with open(path, "wb") as file:
        file.write(data)
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


MPEG_DELAY = 1105
"""Samples that a decoder of MP3 gives before the first that was encoded: 576 of LAME's, 529 of a decoder's."""


def odd_recordings() -> dict[str, tuple[bytes, np.ndarray]]:
    """Return files by name, each with the samples that it has; no two are equally long."""
    pcm = [noise(seed, 20_000 + 512 * seed) for seed in range(16)]
    expected = [samples_of(one) for one in pcm]
    found = {
        f"died_{riff}_{bits}.wav": (wav(pcm[index], riff, 0, bits), pcm[index] if bits == 32 else expected[index])
        for index, (riff, bits) in enumerate([(0, 16), (8, 16), (36, 16), (0, 32), (36, 32)])
    }
    found |= {
        f"streamed_{size:08x}.wav": (wav(pcm[index], (size + 36) % 2**32, size), expected[index])
        for index, size in enumerate([0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFF9B, 0xFFFFFFFF], 5)
    }
    found["tagged.wav"] = (id3v2(997) + wav(pcm[10]) + ID3V1, expected[10])
    found["tagged_twice.flac"] = (id3v2(10) + id3v2(5000) + encoded(pcm[11], "FLAC", "PCM_16"), expected[11])
    found["tagged.aiff"] = (id3v2(301) + encoded(pcm[12], "AIFF", "PCM_16"), expected[12])
    found["piped.flac"] = (flac_without_length(encoded(pcm[13], "FLAC", "PCM_16")), expected[13])
    return found
