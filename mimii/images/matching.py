"""Which recordings of an album were scored: their paths may have been given in another way then.

A recording is known by its absolute path or URL. Where that fits none, one path has to end with the whole of the
other, which is relative: ``raw/press7/1.wav`` is ``s3://bucket/raw/press7/1.wav``.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mimii.engine import digest_version
from mimii.images.scored import Scored, ScoredRecordings
from mimii.recordings import Clip, SourceError
from mimii.storage import absolute, as_unicode, is_remote, numbered, printable

_LEAST_PARTS = 2
_log = logging.getLogger(__name__)

Channels = Mapping[int, Scored]
"""What is known of a recording, by channel."""


def find_scored(recordings: Sequence[Clip], scored: ScoredRecordings) -> dict[tuple[str, str], Channels]:
    """Return what is known of recordings, by `Clip.recording`; those that were not scored are left out.

    Those that were replaced since count as not scored. Raises SourceError where none is left, and where it is not clear
    which recording a path means.
    """
    exact = _match_places(recordings, scored)
    by_end = _match_ends([one for one in recordings if one.recording not in exact], scored, set(exact.values()))
    replaced = [one for one in recordings if one.recording in exact and _is_replaced(one, exact[one.recording], scored)]
    gone = {one.recording for one in replaced}
    matched = {key: path for key, path in (exact | by_end).items() if key not in gone}
    if not matched:
        raise SourceError(_refusal(recordings, replaced, scored))
    _say(scored.place, "replaced since, which count as not scored", [one.path for one in replaced])
    pairs = [f"{key[0]} as {path}" for key, path in by_end.items()]
    _say(scored.place, "matched by the ends of their paths", pairs)
    return {key: scored.channels[path] for key, path in matched.items()}


def _match_places(recordings: Sequence[Clip], scored: ScoredRecordings) -> dict[tuple[str, str], str]:
    paths = {absolute(path): path for path in scored.channels}
    places = ((one.recording, as_unicode(str(one.place))) for one in recordings)
    return {key: paths[place] for key, place in places if place in paths}


def _match_ends(recordings: Sequence[Clip], scored: ScoredRecordings, known: set[str]) -> dict[tuple[str, str], str]:
    by_name = defaultdict[str, list[str]](list)
    for path in scored.channels.keys() - known:
        by_name[_name(path)].append(path)
    matched = dict[tuple[str, str], str]()
    owners = dict[str, str]()
    for one in recordings:
        path = as_unicode(one.path)
        found = sorted(other for other in by_name[_name(path)] if _is_same(path, other))
        if len(found) > 1:
            raise SourceError(_ambiguous(scored.place, path, found))
        for other in found:
            if other in owners:
                raise SourceError(_ambiguous(scored.place, other, [owners[other], path]))
            owners[other] = path
            matched[one.recording] = other
    return matched


def _is_same(one: str, other: str) -> bool:
    return _ends_with(absolute(one), other) or _ends_with(absolute(other), one)


def _ends_with(whole: str, end: str) -> bool:
    """Say whether a path ends with all of a relative one, which has at least a folder."""
    if is_remote(end) or os.path.isabs(end):
        return False
    parts = [part for part in os.path.normpath(end).split("/") if part != ".."]
    return len(parts) >= _LEAST_PARTS and f"/{whole}".endswith("/" + "/".join(parts))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_replaced(recording: Clip, path: str, scored: ScoredRecordings) -> bool:
    version = scored.versions.get(path)
    return version is not None and version != f"{digest_version(recording.place):016x}"


def _ambiguous(place: str, path: str, found: Sequence[str]) -> str:
    first, second = map(printable, found[:2])
    return f"{place}: {printable(path)} may be {first} or {second}; score and render with absolute paths, or URLs"


def _refusal(recordings: Sequence[Clip], replaced: Sequence[Clip], scored: ScoredRecordings) -> str:
    if replaced:
        first = printable(replaced[0].path)
        return f"{scored.place}: all of its recordings were replaced since, such as {first}; run jobs.score again"
    if not scored.channels:
        return f"{scored.place}: has no recordings; run jobs.score for those that are to be rendered"
    looked, here = printable(next(iter(scored.channels))), printable(recordings[0].path if recordings else "none")
    return (
        f"{scored.place}: none of its {len(scored.channels):,} recordings is among the {len(recordings):,} to be "
        f"rendered. Looked for {looked}, among paths such as {here}; name the sources as for jobs.score"
    )


def _say(place: str, what: str, names: Sequence[str]) -> None:
    if names:
        _log.warning("%s: %s %s, such as %s", place, numbered(len(names), "recording"), what, printable(names[0]))


def scored_channels(
    clips: Sequence[Clip], found: Mapping[tuple[str, str], Channels], place: str
) -> Iterator[Scored | None]:
    """Yield what is known of the channel of each clip; SourceError where no image shows a channel that was scored."""
    known = [found.get(clip.recording, {}) for clip in clips]
    if not any(clip.channel in one for clip, one in zip(clips, known, strict=True)):
        scored = sorted({channel for one in known for channel in one})
        msg = (
            f"{place}: is of channel {', '.join(map(str, scored))} and the images show channel "
            f"{', '.join(map(str, sorted({clip.channel for clip in clips})))} (-1 is the mean of all); "
            "render with the --channel that was scored"
        )
        raise SourceError(msg)
    return (one.get(clip.channel) for clip, one in zip(clips, known, strict=True))
