"""Choose clips of an album for an overview, and draw their spectrograms."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from mimii.engine import compute_spectrograms, digest
from mimii.features import ClipTask, FeatureSpec, power_to_db
from mimii.images.album import Album, album_origins
from mimii.images.drawings import Panel, draw_overview
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL, Clip, part_words
from mimii.storage import ReadOptions, as_unicode, numbered

_MOST_PAIRS = 16
_Pair = tuple[int | None, int | None]


def make_contact_sheet(album: Album, problems: Sequence[str], read_options: ReadOptions) -> bytes | None:
    """Draw a normal clip above an abnormal one of each machine, at most 16 machines, at the highest SNR there is."""
    good, pairs = _choose(album, problems)
    loaded = _load(album, [clip for pair in pairs for clip in pair if clip is not None], read_options)
    if not loaded:
        return None
    panels = [(_panel(album, pair, 0, loaded), _panel(album, pair, 1, loaded)) for pair in pairs]
    return draw_overview(panels, album.catalogue.spec, album.style, _caption(album, good))


def digest_contact_sheet(album: Album, problems: Sequence[str]) -> str:
    """Digest all that decides what is drawn: one that is there and has the same digest need not be drawn again."""
    good, pairs = _choose(album, problems)
    clips = [clip for pair in pairs for clip in pair if clip is not None]
    shown = [(origin, album.pictures(clip)[0]) for clip, origin in zip(clips, album_origins(album, clips), strict=True)]
    titles = [_title(album.catalogue.clips[clip], album.catalogue.spec) for clip in clips]
    places = [[clip is not None for clip in pair] for pair in pairs]
    values = (album.made, [(origin, picture.start, picture.stop) for origin, picture in shown], titles, places)
    return f"{digest(repr((values, _caption(album, good) if good else ''))):x}"


def _choose(album: Album, problems: Sequence[str]) -> tuple[list[int], list[_Pair]]:
    """Return the clips that have images, and the pairs of them that are drawn."""
    good = [clip for clip, problem in enumerate(problems) if not problem]
    return good, _thin(_labelled_pairs(album, good) or _unlabelled_pairs(good))


def _labelled_pairs(album: Album, good: Sequence[int]) -> list[_Pair]:
    """Pair the first normal and the first abnormal clip of each machine, the highest SNR first."""
    clips = album.catalogue.clips
    machines: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for clip in sorted(good, key=lambda clip: (-_snr(clips[clip]), clips[clip].path)):
        identity = clips[clip].identity
        if identity.label in (NORMAL, ABNORMAL):
            machines[identity.machine_type, identity.machine_id].setdefault(identity.label, clip)
    return [(by_label.get(NORMAL), by_label.get(ABNORMAL)) for _, by_label in sorted(machines.items())]


def _unlabelled_pairs(good: Sequence[int]) -> list[_Pair]:
    return list(zip_longest(good[::2], good[1::2]))


def _thin(pairs: Sequence[_Pair]) -> list[_Pair]:
    step = max(1, len(pairs) / _MOST_PAIRS)
    return [pairs[int(index * step)] for index in range(min(len(pairs), _MOST_PAIRS))]


def _load(album: Album, clips: Sequence[int], read_options: ReadOptions) -> dict[int, Panel]:
    """Return what the first image of each clip shows, without the clips that cannot be read any more."""
    catalogue, panels = album.catalogue, {}
    inputs = tuple(map(catalogue.input, clips))
    for clip in compute_spectrograms(ClipTask(inputs, read_options, catalogue.spec)):
        if not clip.fault:
            first = album.pictures(clip.input.clip)[0]
            decibel = power_to_db(clip.value[first.start : first.stop], catalogue.spec)
            panels[clip.input.clip] = Panel(_title(catalogue.clips[clip.input.clip], catalogue.spec), decibel)
    return panels


def _panel(album: Album, pair: _Pair, place: int, loaded: Mapping[int, Panel]) -> Panel:
    clip, other = pair[place], pair[1 - place]
    if clip is not None:
        return loaded.get(clip, Panel("", None))
    is_labelled = other is not None and album.catalogue.clips[other].identity.label in (NORMAL, ABNORMAL)
    return Panel(f"no {LABEL_NAMES[(NORMAL, ABNORMAL)[place]]} clip" if is_labelled else "", None)


def _snr(clip: Clip) -> float:
    return 0.0 if math.isnan(clip.identity.snr_db) else clip.identity.snr_db


def _title(clip: Clip, spec: FeatureSpec) -> str:
    identity, part = clip.identity, part_words(clip, spec)
    if identity.label not in (NORMAL, ABNORMAL):
        return ", ".join(filter(None, (as_unicode(clip.path.rpartition("/")[2]), part)))
    machine = f"{identity.machine_type} {identity.machine_id}".strip()
    snr = "" if math.isnan(identity.snr_db) else f"{identity.snr_db:g} dB"
    return ", ".join(filter(None, (machine, snr, LABEL_NAMES[identity.label], part)))


def _caption(album: Album, good: Sequence[int]) -> str:
    spec, style = album.catalogue.spec, album.style
    n_images = sum(len(album.pictures(clip)) for clip in good)
    width, height = album.size(album.pictures(good[0])[0])
    details = f"n_fft {spec.n_fft}, hop_length {spec.hop_length}, {spec.n_mels} mel bands"
    return f"{numbered(n_images, 'image')} like these, {width} x {height} pixels, {style.format.upper()}; {details}"
