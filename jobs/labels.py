"""What `jobs.render` says of the labels of images that show parts of recordings."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator

from jobs.words import numbered
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
    have = "image has" if inherited == 1 else "images have"
    return {
        "labels": f"{inherited:,} abnormal {have} the label of the whole recording and show a part of it; --label-by "
        "events.csv labels each by the moments that jobs.score found"
    }


def _describe_scored(album: Album, bad: Container[int]) -> Iterator[str]:
    """Count images by label, recordings that were scored, and those whose own label says something else."""
    labels, scored = defaultdict[tuple[str, str], set[int]](set), set[tuple[str, str]]()
    counts, own = Counter[int](), dict[tuple[str, str], int]()
    for clip, picture in _pictures(album, bad):
        one = album.catalogue.clips[clip]
        counts[picture.label] += 1
        labels[one.recording].add(picture.label)
        own[one.recording] = one.identity.label
        if album.scored[clip]:
            scored.add(one.recording)
    names = ((ABNORMAL, LABEL_NAMES[ABNORMAL]), (NORMAL, LABEL_NAMES[NORMAL]), (UNKNOWN, "without a label"))
    yield ", ".join(f"{counts[label]:,} {name}" for label, name in names if counts[label] or label != UNKNOWN)
    yield f"{len(scored):,} of {numbered(len(labels), 'recording')} scored"
    alarmed = sum(own[one] == NORMAL and ABNORMAL in labels[one] for one in scored)
    silent = sum(own[one] == ABNORMAL and ABNORMAL not in labels[one] for one in scored)
    if alarmed:
        yield f"{numbered(alarmed, 'normal recording')} with events"
    if silent:
        yield f"{numbered(silent, 'abnormal recording')} without"


def _pictures(album: Album, bad: Container[int]) -> Iterator[tuple[int, Picture]]:
    for clip in range(len(album.names)):
        if clip not in bad:
            for picture in album.pictures(clip):
                yield clip, picture
