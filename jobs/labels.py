"""What `jobs.render` says of the labels of images that show parts of recordings."""

from collections import Counter
from collections.abc import Container, Iterator

from jobs.words import have, numbered
from mimii.images import Album, Picture
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL, UNKNOWN


def describe_labels(album: Album, bad: Container[int] = ()) -> dict[str, str]:
    """Say which labels images have by --label-by; without it, how many show a part of an abnormal recording."""
    if album.scored:
        return {"labels": "; ".join(_describe_scored(album, bad))}
    inherited = sum(
        picture.label == ABNORMAL and album.is_part(clip, picture.start, picture.stop)
        for clip, picture in _pictures(album, bad)
    )
    if not inherited:
        return {}
    images = "image has" if inherited == 1 else "images have"
    return {
        "labels": f"{inherited:,} abnormal {images} the label of the whole recording and show a part of it; --label-by "
        "events.csv labels each by the moments that jobs.score found"
    }


def _describe_scored(album: Album, bad: Container[int]) -> Iterator[str]:
    """Count images by label, recordings that were scored, and those whose own label says something else."""
    counts, own = Counter[int](), dict[tuple[str, str], int]()
    scored, with_events = set[tuple[str, str]](), set[tuple[str, str]]()
    for clip, picture in _pictures(album, bad):
        one, found = album.catalogue.clips[clip], album.scored[clip]
        counts[picture.label] += 1
        own[one.recording] = one.identity.label
        if found:
            scored.add(one.recording)
            with_events |= {one.recording} if found.events else set()
    names = ((ABNORMAL, LABEL_NAMES[ABNORMAL]), (NORMAL, LABEL_NAMES[NORMAL]), (UNKNOWN, "without a label"))
    yield ", ".join(f"{counts[label]:,} {name}" for label, name in names if counts[label] or label != UNKNOWN)
    yield f"{len(scored):,} of {numbered(len(own), 'recording')} scored"
    if alarmed := sum(own[one] == NORMAL for one in with_events):
        yield f"{numbered(alarmed, 'recording')} labelled normal, with events"
    if silent := sum(own[one] == ABNORMAL for one in scored - with_events):
        yield f"{numbered(silent, 'recording')} labelled abnormal {have(silent)} no event"


def _pictures(album: Album, bad: Container[int]) -> Iterator[tuple[int, Picture]]:
    for clip in range(len(album.names)):
        if clip not in bad:
            for picture in album.pictures(clip):
                yield clip, picture
