"""Spectrogram to image: dB to pixels to the bytes of a PNG or JPEG file. The only file that knows Pillow.

PNG is written here and not by Pillow: a spectrogram is noise to a compressor, so the fastest one makes files of the
same size ten times as fast.

References
----------
Portable Network Graphics (PNG) Specification, third edition, W3C 2025.

"""

import importlib
import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimii.features import FloatArray, SpecError

Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Filters of Pillow, by name."""

Format = Literal["png", "jpeg"]
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}

MOST_PIXELS_A_SIDE = 16_384
_JPEG_QUALITY = 95
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2
_FILTER_NONE, _FILTER_SUB = 0, 1

Pixels = NDArray[np.uint8]

_deflating: Any = zlib
with suppress(ImportError):
    _deflating = importlib.import_module("isal.isal_zlib")  # some 4 times as fast


@dataclass(frozen=True, slots=True)
class Style:
    """How a spectrogram becomes an image.

    Attributes
    ----------
    colormap : str
        The name of the colours, for people.
    colours : bytes
        A table of colours, red, green and blue of each from quiet to loud; empty for gray, where loud is black.
    db_range : (float, float) or None
        Which dB are the ends of the scale; None takes each image's own smallest and largest.
    size : (int, int) or None
        Width and height in pixels; None for a pixel each frame and mel band.
    resampling : str
        With which filter to come to that size.
    format : {"png", "jpeg"}
        Of the file.

    Raises
    ------
    SpecError
        If a value makes no sense.

    """

    colormap: str = "gray"
    colours: bytes = b""
    db_range: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    resampling: Resampling = "bilinear"
    format: Format = "png"

    def __post_init__(self) -> None:
        wrongs = {
            f"the dB range must be two numbers, the smaller first, not {self.db_range}": self.db_range
            and not -np.inf < self.db_range[0] < self.db_range[1] < np.inf,
            f"a size must be 1 to {MOST_PIXELS_A_SIDE} pixels a side, not {self.size}": self.size
            and not all(1 <= side <= MOST_PIXELS_A_SIDE for side in self.size),
            f"resampling must be one of {', '.join(get_args(Resampling))}": self.resampling not in get_args(Resampling),
            f"format must be one of {', '.join(get_args(Format))}": self.format not in get_args(Format),
        }
        for msg, is_wrong in wrongs.items():
            if is_wrong:
                raise SpecError(msg)

    def shape(self, n_frames: int, n_mels: int) -> tuple[int, int]:
        """Return the width and the height in pixels of an image of so many frames and mel bands."""
        return self.size or (n_frames, n_mels)


def render_image(decibel: FloatArray, style: Style) -> bytes:
    """Make an image file of a spectrogram."""
    pixels = to_pixels(decibel, style)
    return encode_png(pixels) if style.format == "png" else encode_jpeg(pixels)


def to_pixels(decibel: FloatArray, style: Style) -> Pixels:
    """Turn a spectrogram into pixels: time to the right, low frequencies at the bottom.

    With ``x = (dB - low) / (high - low)``, cut off at 0 and 1, where low and high are the smallest and the largest dB
    of the image or those of ``style.db_range``, a pixel is ``255 - floor(255 x)`` in gray (loud is black), and colour
    ``min(floor(N x), N - 1)`` of a table of N. To another size, x is resampled before that: so colours are always
    those of the table.
    """
    loudness = _resized(_loudness(decibel, style).T[::-1], style)
    if not style.colours:
        return 255 - (loudness * np.float32(255)).astype(np.uint8)
    table = np.frombuffer(style.colours, np.uint8).reshape(-1, 3)
    which = (loudness * np.float32(len(table))).astype(np.intp)
    return table[np.minimum(which, len(table) - 1, out=which)]


def encode_png(pixels: Pixels) -> bytes:
    """Write pixels as a PNG file of 8 bits a sample."""
    height, width = pixels.shape[:2]
    is_gray = pixels.ndim == 2
    header = struct.pack(">2L5B", width, height, 8, _GRAY if is_gray else _RGB, 0, 0, 0)
    data = _deflated_gray(pixels) if is_gray else _deflated_colour(pixels.reshape(height, -1))
    return b"".join((_SIGNATURE, _png_chunk(b"IHDR", header), _png_chunk(b"IDAT", data), _png_chunk(b"IEND", b"")))


def encode_jpeg(pixels: Pixels) -> bytes:
    """Write pixels as a JPEG file of quality 95, colours at full resolution."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def measure_image(data: bytes) -> tuple[str, int, int]:
    """Look at an image file."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return str(image.format), image.width, image.height
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        msg = f"not a whole image: {error}"
        raise ValueError(msg) from error


def _loudness(decibel: FloatArray, style: Style) -> FloatArray:
    """Scale dB to 0 for quiet and 1 for loud."""
    low, high = style.db_range or (decibel.min(), decibel.max())
    if not low < high:
        return np.zeros_like(decibel)
    scaled = np.subtract(decibel, np.float32(low))
    np.divide(scaled, np.float32(high) - np.float32(low), out=scaled)
    return np.clip(scaled, 0, 1, out=scaled)


def _resized(loudness: FloatArray, style: Style) -> FloatArray:
    if style.size in (None, loudness.shape[::-1]):
        return loudness
    method = Image.Resampling[style.resampling.upper()]
    resized: FloatArray = np.asarray(Image.fromarray(np.ascontiguousarray(loudness)).resize(style.size, method))
    return np.clip(resized, 0, 1)  # some filters overshoot


def _deflated_gray(pixels: Pixels) -> bytes:
    rows = np.empty((pixels.shape[0], 1 + pixels.shape[1]), np.uint8)
    rows[:, 0] = _FILTER_SUB
    rows[:, 1] = pixels[:, 0]
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=rows[:, 2:])
    compressed: bytes = _deflating.compress(rows.data, 1)
    return compressed


def _deflated_colour(samples: Pixels) -> bytes:
    rows = np.empty((samples.shape[0], 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = _FILTER_NONE  # neighbours are of few colours, which repeat: differences would hide that
    rows[:, 1:] = samples
    return zlib.compress(rows.data, 1)  # a fifth smaller than what isal makes of it


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", _deflating.crc32(data, zlib.crc32(kind)))
