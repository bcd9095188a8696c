"""A spectrogram in dB to pixels, and to the bytes of a PNG or JPEG file. Only this module imports Pillow.

PNG is written here, without Pillow: a spectrogram hardly compresses, so the fastest level of libdeflate makes files of
the same size in a tenth of the time (Portable Network Graphics Specification, third edition, W3C 2025). ISA-L takes a
third less, but now and then makes other bytes of the same pixels.
"""

import io
import struct
from dataclasses import dataclass
from typing import Literal, get_args

import deflate
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimii.features import FloatArray, SpecError

Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Filters of Pillow, by name."""

Format = Literal["png", "jpeg"]
Pixels = NDArray[np.uint8]
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}

MOST_PIXELS_A_SIDE = 16_384
_JPEG_QUALITY = 95
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE = 0, 2, 3
_FILTER_NONE, _FILTER_SUB = 0, 1
_FASTEST, _SMALL = 1, 9


@dataclass(frozen=True, slots=True)
class Style:
    """How a spectrogram becomes an image; raises `SpecError` where a value is not valid.

    Attributes
    ----------
    colormap : str
        Name of the colours, for messages and metadata: `colours` decides.
    colours : bytes
        Table of colours, three bytes (RGB) each, from quiet to loud; empty for gray, where loud is black.
    db_range : (float, float) or None
        Ends of the scale in dB; None for the smallest and the largest of each image.
    size : (int, int) or None
        Width and height in pixels; None for one pixel per frame and mel band.

    """

    colormap: str = "gray"
    colours: bytes = b""
    db_range: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    resampling: Resampling = "bilinear"
    format: Format = "png"

    def __post_init__(self) -> None:
        errors = {
            f"the dB range must be two numbers, the smaller first, not {self.db_range}": self.db_range
            and not -np.inf < self.db_range[0] < self.db_range[1] < np.inf,
            f"a size must be 1 to {MOST_PIXELS_A_SIDE} pixels a side, not {self.size}": self.size
            and not all(1 <= side <= MOST_PIXELS_A_SIDE for side in self.size),
            f"resampling must be one of {', '.join(get_args(Resampling))}, not {self.resampling!r}": self.resampling
            not in get_args(Resampling),
            f"format must be one of {', '.join(get_args(Format))}, not {self.format!r}": self.format
            not in get_args(Format),
        }
        for msg, is_wrong in errors.items():
            if is_wrong:
                raise SpecError(msg)

    def shape(self, n_frames: int, n_mels: int) -> tuple[int, int]:
        """Return width and height in pixels of the image of a spectrogram."""
        return self.size or (n_frames, n_mels)


def render_image(decibel: FloatArray, style: Style) -> bytes:
    """Return the spectrogram as the bytes of an image file."""
    pixels = to_pixels(decibel, style)
    return encode_png(pixels) if style.format == "png" else encode_jpeg(pixels)


def to_pixels(decibel: FloatArray, style: Style) -> Pixels:
    """Return the pixels of a spectrogram: time to the right, low frequencies at the bottom.

    With ``x = (dB - low) / (high - low)``, clipped to 0..1, a pixel is ``255 - floor(255 x)`` in gray, or entry
    ``min(floor(N x), N - 1)`` of a table of N colours. Resizing applies to x, so that all colours are of the table.
    Shape (n_frames, n_mels) becomes (height, width) in gray, (height, width, 3) in colour.
    """
    if style.colours:
        return np.frombuffer(style.colours, np.uint8).reshape(-1, 3)[_entries(decibel, style)]
    return 255 - (_loudness(decibel, style) * np.float32(255)).astype(np.uint8)


def render_entries(decibel: FloatArray, style: Style) -> bytes:
    """Return the spectrogram as a PNG file of entries of a table of at most 256 colours: smaller than in RGB."""
    entries = _entries(decibel, style).astype(np.uint8)
    rows = np.pad(entries, ((0, 0), (1, 0)), constant_values=_FILTER_NONE)
    height, width = entries.shape
    header = struct.pack(">2L5B", width, height, 8, _PALETTE, 0, 0, 0)
    data = deflate.zlib_compress(rows.tobytes(), _SMALL)
    chunks = ((b"IHDR", header), (b"PLTE", style.colours), (b"IDAT", data), (b"IEND", b""))
    return _SIGNATURE + b"".join(_png_chunk(kind, chunk) for kind, chunk in chunks)


def encode_png(pixels: Pixels) -> bytes:
    """Return pixels as a PNG file with 8 bits per sample."""
    height, width = pixels.shape[:2]
    header = struct.pack(">2L5B", width, height, 8, _GRAY if pixels.ndim == 2 else _RGB, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _compress(pixels)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def encode_jpeg(pixels: Pixels) -> bytes:
    """Return pixels as a JPEG file of quality 95 without chroma subsampling."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def measure_image(data: bytes) -> tuple[str, int, int]:
    """Return format, width and height of an image file; raise ValueError where it is damaged or no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return str(image.format), image.width, image.height
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        msg = f"not a whole image: {error}"
        raise ValueError(msg) from error


def _loudness(decibel: FloatArray, style: Style) -> FloatArray:
    return _resize(_scale(decibel, style).T[::-1], style)


def _entries(decibel: FloatArray, style: Style) -> NDArray[np.intp]:
    """Return for each pixel which entry of the table of colours it is."""
    n_colours = len(style.colours) // 3
    entries = (_loudness(decibel, style) * np.float32(n_colours)).astype(np.intp)
    return np.minimum(entries, n_colours - 1, out=entries)


def _scale(decibel: FloatArray, style: Style) -> FloatArray:
    """Scale dB to 0 (quiet) to 1 (loud); all quiet where all values are the same."""
    low, high = style.db_range or (decibel.min(), decibel.max())
    if not low < high:
        return np.zeros_like(decibel)
    scaled = np.subtract(decibel, np.float32(low))
    np.divide(scaled, np.float32(high) - np.float32(low), out=scaled)
    return np.clip(scaled, 0, 1, out=scaled)


def _resize(loudness: FloatArray, style: Style) -> FloatArray:
    if style.size in (None, loudness.shape[::-1]):
        return loudness
    method = Image.Resampling[style.resampling.upper()]
    resized: FloatArray = np.asarray(Image.fromarray(np.ascontiguousarray(loudness)).resize(style.size, method))
    return np.clip(resized, 0, 1)  # some filters overshoot


def _compress(pixels: Pixels) -> bytearray:
    """Compress rows of samples, each behind a byte that names its PNG filter."""
    samples = pixels.reshape(len(pixels), -1)
    rows = np.empty((len(samples), 1 + samples.shape[1]), np.uint8)
    if pixels.ndim == 3:
        rows[:, 0] = _FILTER_NONE  # a few colours repeat, which differences would hide
        rows[:, 1:] = samples
    else:
        rows[:, 0] = _FILTER_SUB
        rows[:, 1] = samples[:, 0]
        np.subtract(samples[:, 1:], samples[:, :-1], out=rows[:, 2:])
    return deflate.zlib_compress(rows.data, _FASTEST)


def _png_chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", deflate.crc32(data, deflate.crc32(kind)))
