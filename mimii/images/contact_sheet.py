"""Choose clips of an album for an overview, and draw their spectrograms."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from mimii.engine import compute_spectrograms, digest
from mimii.features import ClipTask, power_to_db
from mimii.images.album import Album, Picture, album_origins
from mimii.images.drawings import Panel, draw_overview
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL, Clip, part_words
from mimii.storage import ReadOptions, as_unicode, numbered

_MOST_PAIRS = 16


class _Shown(NamedTuple):
    """A clip, and which of its images is drawn."""

    clip: int
    picture: Picture


_Pair = tuple[_Shown | None, _Shown | None]


def make_contact_sheet(album: Album, problems: Sequence[str], read_options: ReadOptions) -> bytes | None:
    """Draw a normal clip above an abnormal one of each machine, at most 16 machines, at the highest SNR there is."""
    good, pairs = _choose(album, problems)
    loaded = _load(album, [shown for pair in pairs for shown in pair if shown], read_options)
    if not loaded:
        return None
    panels = [(_panel(pair, 0, loaded), _panel(pair, 1, loaded)) for pair in pairs]
    return draw_overview(panels, album.catalogue.spec, album.style, _caption(album, good))


def digest_contact_sheet(album: Album, problems: Sequence[str]) -> str:
    """Digest all that decides what is drawn: one that is there and has the same digest need not be drawn again."""
    good, pairs = _choose(album, problems)
    every = [shown for pair in pairs for shown in pair if shown]
    origins = album_origins(album, [shown.clip for shown in every])
    titles = [_title(album, shown) for shown in every]
    places = [[shown is not None for shown in pair] for pair in pairs]
    spans = [(shown.picture.start, shown.picture.stop) for shown in every]
    values = (album.made, [(origin, *span) for origin, span in zip(origins, spans, strict=True)], titles, places)
    return f"{digest(repr((values, _caption(album, good) if good else ''))):x}"


def _choose(album: Album, problems: Sequence[str]) -> tuple[list[int], list[_Pair]]:
    """Return the clips that have images, and the pairs of them that are drawn."""
    good = [clip for clip, problem in enumerate(problems) if not problem]
    return good, _thin(_labelled_pairs(album, good) or _unlabelled_pairs(album, good))


def _labelled_pairs(album: Album, good: Sequence[int]) -> list[_Pair]:
    """Pair the first normal and the first abnormal image of each machine, the highest SNR first."""
    clips = album.catalogue.clips
    machines: dict[tuple[str, str], dict[int, _Shown]] = defaultdict(dict)
    for clip in sorted(good, key=lambda clip: (-_snr(clips[clip]), clips[clip].path)):
        identity = clips[clip].identity
        for picture in album.pictures(clip):
            if picture.label in (NORMAL, ABNORMAL):
                by_label = machines[identity.machine_type, identity.machine_id]
                by_label.setdefault(picture.label, _Shown(clip, picture))
    return [(by_label.get(NORMAL), by_label.get(ABNORMAL)) for _, by_label in sorted(machines.items())]


def _unlabelled_pairs(album: Album, good: Sequence[int]) -> list[_Pair]:
    every = [_Shown(clip, album.pictures(clip)[0]) for clip in good]
    return list(zip_longest(every[::2], every[1::2]))


def _thin(pairs: Sequence[_Pair]) -> list[_Pair]:
    step = max(1, len(pairs) / _MOST_PAIRS)
    return [pairs[int(index * step)] for index in range(min(len(pairs), _MOST_PAIRS))]


def _load(album: Album, every: Sequence[_Shown], read_options: ReadOptions) -> dict[_Shown, Panel]:
    """Return what images show, without those of clips that cannot be read any more."""
    spec, panels = album.catalogue.spec, {}
    inputs = tuple(map(album.catalogue.input, dict.fromkeys(shown.clip for shown in every)))
    for clip in compute_spectrograms(ClipTask(inputs, read_options, spec)):
        for shown in every:
            if shown.clip == clip.input.clip and not clip.fault:
                first, stop = shown.picture.start, shown.picture.stop
                decibel = power_to_db(clip.value[first:stop], spec)
                panels[shown] = Panel(_title(album, shown), decibel, first * spec.hop_length / spec.sample_rate)
    return panels


def _panel(pair: _Pair, place: int, loaded: Mapping[_Shown, Panel]) -> Panel:
    shown, other = pair[place], pair[1 - place]
    if shown is not None:
        return loaded.get(shown, Panel("", None))
    is_labelled = other is not None and other.picture.label in (NORMAL, ABNORMAL)
    return Panel(f"no {LABEL_NAMES[(NORMAL, ABNORMAL)[place]]} clip" if is_labelled else "", None)


def _snr(clip: Clip) -> float:
    return 0.0 if math.isnan(clip.identity.snr_db) else clip.identity.snr_db


def _title(album: Album, shown: _Shown) -> str:
    clip, label = album.catalogue.clips[shown.clip], shown.picture.label
    identity, part = clip.identity, part_words(clip, album.catalogue.spec)
    file = as_unicode(clip.path.rpartition("/")[2])
    if label not in (NORMAL, ABNORMAL):
        return ", ".join(filter(None, (file, part)))
    machine = f"{identity.machine_type} {identity.machine_id}".strip() or file
    snr = "" if math.isnan(identity.snr_db) else f"{identity.snr_db:g} dB"
    return ", ".join(filter(None, (machine, snr, LABEL_NAMES[label], part)))


def _caption(album: Album, good: Sequence[int]) -> str:
    spec, style = album.catalogue.spec, album.style
    n_images = sum(len(album.pictures(clip)) for clip in good)
    one_scale = "" if style.db_range else " (here all on one)"
    frame_ms, window_ms = (1000 * n_samples / spec.sample_rate for n_samples in (spec.hop_length, spec.n_fft))
    frames = f"frames of {window_ms:.4g} ms, one each {frame_ms:.4g} ms"
    images = numbered(n_images, f"{style.format.upper()} image")
    return f"{images} of {album.describe(good[0])}{one_scale}; {frames}"
