"""Which clips to show of an album, and their spectrograms: people would rather look than read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mimii.features import load_mel, power_to_db
from mimii.images.album import Album
from mimii.images.drawings import Panel, draw_overview
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL, Clip
from mimii.storage import ReadOptions, open_all

_MOST_PAIRS = 16
_Pair = tuple[int | None, int | None]


def make_contact_sheet(album: Album, problems: Sequence[str], read_options: ReadOptions) -> bytes | None:
    """Draw a normal above an abnormal clip of each machine, at most 16 machines, at the best SNR that there is."""
    good = [index for index, problem in enumerate(problems) if not problem]
    pairs = _spread(_labelled_pairs(album, good) or _plain_pairs(good))
    shown = _load(album, [clip for pair in pairs for clip in pair if clip is not None], read_options)
    if not shown:
        return None
    panels = [(_panel(album, pair, 0, shown), _panel(album, pair, 1, shown)) for pair in pairs]
    return draw_overview(panels, album.catalogue.spec, album.style, _caption(album, good))


def _labelled_pairs(album: Album, good: Sequence[int]) -> list[_Pair]:
    """Pair a normal and an abnormal clip of each machine: of those with the best SNR the first."""
    machines: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    ranked = sorted(good, key=lambda index: (-_snr(album.catalogue.clips[index]), album.catalogue.clips[index].path))
    for index in ranked:
        who = album.catalogue.clips[index].identity
        if who.label in (NORMAL, ABNORMAL):
            machines[who.machine_type, who.machine_id].setdefault(who.label, index)
    return [(clips.get(NORMAL), clips.get(ABNORMAL)) for _, clips in sorted(machines.items())]


def _plain_pairs(good: Sequence[int]) -> list[_Pair]:
    """Pair clips without a label as they come."""
    evens, odds = good[0::2], [*good[1::2], *([None] if len(good) % 2 else [])]
    return list(zip(evens, odds, strict=True))


def _spread(pairs: Sequence[_Pair]) -> list[_Pair]:
    step = max(1, len(pairs) / _MOST_PAIRS)
    return [pairs[int(index * step)] for index in range(min(len(pairs), _MOST_PAIRS))]


def _load(album: Album, clips: Sequence[int], read_options: ReadOptions) -> dict[int, Panel]:
    """Compute what the first image of each clip shows; a clip that is gone by now is left out."""
    catalogue = album.catalogue
    panels = {}
    for clip, opener in zip(
        clips, open_all([catalogue.clips[clip].place for clip in clips], read_options), strict=True
    ):
        mel = load_mel(opener, int(catalogue.n_samples[clip]), catalogue.spec).mel
        if mel is not None:
            first = album.pictures(clip)[0]
            decibel = power_to_db(mel[first.start : first.stop], catalogue.spec)
            panels[clip] = Panel(_title(catalogue.clips[clip]), decibel)
    return panels


def _panel(album: Album, pair: _Pair, which: int, shown: Mapping[int, Panel]) -> Panel:
    clip, other = pair[which], pair[1 - which]
    if clip is not None and clip in shown:
        return shown[clip]
    if clip is None and other is not None and album.catalogue.clips[other].identity.label in (NORMAL, ABNORMAL):
        return Panel(f"no {LABEL_NAMES[(NORMAL, ABNORMAL)[which]]} clip", None)
    return Panel("", None)


def _snr(clip: Clip) -> float:
    return clip.identity.snr_db if clip.identity.snr_db == clip.identity.snr_db else 0.0


def _title(clip: Clip) -> str:
    who = clip.identity
    snr = f"{who.snr_db:g} dB" if who.snr_db == who.snr_db else ""
    if who.label not in (NORMAL, ABNORMAL):
        return clip.path.rpartition("/")[2]
    return ", ".join(filter(None, (f"{who.machine_type} {who.machine_id}".strip(), snr, LABEL_NAMES[who.label])))


def _caption(album: Album, good: Sequence[int]) -> str:
    spec, style = album.catalogue.spec, album.style
    n_images = sum(len(album.pictures(clip)) for clip in good)
    width, height = album.size(album.pictures(good[0])[0])
    details = f"n_fft {spec.n_fft}, hop_length {spec.hop_length}, {spec.n_mels} mel bands"
    return f"{n_images:,} images such as these, {width} x {height} pixels, {style.format.upper()}; {details}"
