"""Get the archives of the MIMII data set (Zenodo, CC BY-SA 4.0), a download that may break off as often as it likes.

NAME is an archive (6_dB_fan), all of an SNR (6_dB, 0_dB, -6_dB), all of a type of machine (fan, pump, slider, valve),
or all: 12 archives, 100.2 GB. There is no need to unpack them: python -m jobs.featurize reads them where they lie. Size
and MD5 are checked as they come. Run the same command again to go on; what is there and right is left alone.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.options import DEFAULT_SOURCE, add_storage_option, location, source_access
from jobs.report import format_bytes, format_table, numbered
from jobs.watch import Downloads
from mimii.recordings import ARCHIVES, BASE_URL, RECORD, Archive, NameOfArchiveError, archive_url, select
from mimii.storage import (
    Access,
    DownloadError,
    PublishedFile,
    Retrying,
    Silent,
    StoppedError,
    check_file,
    check_object,
    download,
    is_remote,
    partial_path,
    published_size,
    s3,
    transfer,
)

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
AT_ONCE = 2
_SECONDS_TO_STOP = 3.0
_EPILOG = f"""
exit status: 0 all is there and right; 1 something is not; 2 wrong usage; 130 interrupted.

With --dest s3://..., an archive streams to S3 without a disk in between; one that breaks off because this command was
killed begins anew.

examples:
  python -m jobs.fetch 6_dB_fan                        10 GB to {DEFAULT_SOURCE}/6_dB_fan.zip
  python -m jobs.fetch fan 0_dB_valve --dest /mnt/raw
  python -m jobs.fetch all --dest s3://bucket/mimii
  python -m jobs.fetch all --verify-only
"""


@dataclass(frozen=True, slots=True)
class Errand:
    """One archive and where it goes.

    Attributes
    ----------
    archive : Archive
        Which.
    wanted : PublishedFile
        Where it is published, and what it should be.
    target : str
        A path, or ``s3://bucket/key``.

    """

    archive: Archive
    wanted: PublishedFile
    target: str


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.fetch",
        usage="%(prog)s NAME ... [--dest URL] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which archives; see above, and --list")
    parser.add_argument(
        "--dest",
        type=location,
        metavar="URL",
        default=DEFAULT_SOURCE,
        help="where they go: a folder, or s3://bucket/prefix; default: %(default)s",
    )
    parser.add_argument(
        "--base-url", metavar="URL", default=BASE_URL, help="the folder they come from; default: %(default)s"
    )
    parser.add_argument("--verify-only", action="store_true", help="download nothing; check what is there")
    parser.add_argument("--list", action="store_true", help="list the archives, and which are there; do nothing")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_storage_option(parser)
    return parser


def main(
    arguments: Sequence[str] | None = None, archives: Sequence[Archive] = ARCHIVES, retrying: Retrying | None = None
) -> int:
    """Run the command; return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = make_parser().parse_args([_not_an_option(argument) for argument in given])
    try:
        return _run(options, archives, retrying or Retrying())
    except NameOfArchiveError as error:
        return _fail(USAGE, str(error))
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (DownloadError, OSError) as error:
        return _fail(FAILED, str(error))


def _not_an_option(argument: str) -> str:
    """Spell ``-6_dB`` so that argparse does not take it for an option."""
    return re.sub(r"^-(?=\d+_?dB)", "min", argument, flags=re.IGNORECASE)


def _run(options: argparse.Namespace, archives: Sequence[Archive], retrying: Retrying) -> int:
    if not options.names and not options.list:
        msg = "which archives? For example 6_dB_fan, 0_dB, fan or all; --list shows them"
        raise NameOfArchiveError(msg)
    chosen = select(options.names or ["all"], archives)
    errands = [_errand(archive, options) for archive in chosen]
    access = source_access(options)
    if options.list:
        print("\n".join(_table(errands, access)))
        return OK
    if options.verify_only:
        return _finish([_check(errand, access) for errand in errands], options)
    errands = [_with_size(errand, retrying) for errand in errands]
    _check_space(errands)
    outcomes = _fetch_all(errands, access, retrying, quiet=options.quiet)
    return INTERRUPTED if outcomes is None else _finish(outcomes, options)


def _errand(archive: Archive, options: argparse.Namespace) -> Errand:
    wanted = PublishedFile(archive_url(archive, options.base_url), archive.md5, archive.size)
    return Errand(archive, wanted, f"{options.dest.rstrip('/')}/{archive.filename}")


def _with_size(errand: Errand, retrying: Retrying) -> Errand:
    wanted = errand.wanted
    return Errand(
        errand.archive, PublishedFile(wanted.url, wanted.md5, published_size(wanted, retrying)), errand.target
    )


def _size_there(target: str, access: Access) -> int | None:
    if is_remote(target):
        found = s3.describe(target, access)
        return found.size if found else None
    return os.path.getsize(target) if os.path.exists(target) else None


def _table(errands: Sequence[Errand], access: Access) -> list[str]:
    rows = []
    for errand in errands:
        size, there = errand.wanted.size, _size_there(errand.target, access)
        state = "" if there is None else "there" if size in (None, there) else f"there, but {there:,} bytes"
        rows.append((errand.archive.name, f"{size:,}" if size else "not known", errand.wanted.md5, state))
    return format_table(("archive", "bytes", "MD5", "in --dest"), rows)


def _check(errand: Errand, access: Access) -> tuple[str, bool]:
    """Check what is there; return a line about it, and whether it is right."""
    watcher = Silent()
    if is_remote(errand.target):
        found = s3.describe(errand.target, access)
        problem = check_object(found, errand.wanted, access, watcher) if found else "is not there"
    elif os.path.exists(errand.target):
        problem = check_file(Path(errand.target), errand.wanted, watcher)
    else:
        problem = "is not there"
    return f"{errand.target}: {problem or 'right'}", not problem


def _check_space(errands: Sequence[Errand]) -> None:
    """Refuse to begin what the disk has no room for."""
    near = [Path(errand.target) for errand in errands if not is_remote(errand.target)]
    if not near:
        return
    missing = sum(_missing(errand) for errand in errands)
    folder = next(folder for folder in (near[0].parent, *near[0].absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if missing > free:
        needed = f"{format_bytes(missing)} are still to come, and {format_bytes(free)} are free"
        msg = f"{folder}: {needed}; choose another --dest"
        raise DownloadError(msg)


def _missing(errand: Errand) -> int:
    target = Path(errand.target)
    if target.exists() or errand.wanted.size is None:
        return 0
    partial = partial_path(target)
    there = partial.stat().st_size if partial.exists() else 0
    return max(0, errand.wanted.size - there)


def _fetch_all(
    errands: Sequence[Errand], access: Access, retrying: Retrying, *, quiet: bool
) -> list[tuple[str, bool]] | None:
    """Fetch two at a time; return a line about each and whether it is right, or None where interrupted."""
    stop = threading.Event()
    downloads = Downloads(stop, quiet=quiet)
    with _stopping_at_interrupts(stop):
        pool = ThreadPoolExecutor(AT_ONCE)
        running = [pool.submit(_fetch, errand, access, retrying, downloads) for errand in errands]
        try:
            _await(running, stop)
            outcomes = [future.result() for future in running]
        except StoppedError:
            _abandon(running)
            return None
        pool.shutdown()
        return outcomes


def _await(running: Sequence["Future[tuple[str, bool]]"], stop: threading.Event) -> None:
    while wait(running, timeout=0.1).not_done:
        if stop.is_set():
            raise StoppedError


def _abandon(running: Sequence["Future[tuple[str, bool]]"]) -> None:
    """Leave: at once, if somebody still waits for a server that says nothing."""
    for future in running:
        future.cancel()
    stuck = wait(running, timeout=_SECONDS_TO_STOP).not_done
    _fail(INTERRUPTED, "interrupted. What has come so far is kept: run the same command again to go on.")
    if stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def _fetch(errand: Errand, access: Access, retrying: Retrying, downloads: Downloads) -> tuple[str, bool]:
    """Fetch one archive; return a line about it, and whether it is there and right now."""
    started, name = time.monotonic(), errand.archive.filename
    with downloads.of(name) as watcher:
        try:
            if is_remote(errand.target):
                came = transfer(errand.wanted, errand.target, access, retrying, watcher)
            else:
                came = download(errand.wanted, Path(errand.target), retrying, watcher)
        except (DownloadError, OSError) as error:
            return f"{name}: FAILED: {error}", False
    size = format_bytes(_size_there(errand.target, access) or 0)
    seconds = f"{time.monotonic() - started:.0f} s"
    return f"{name}: {f'fetched, {size} in {seconds}' if came else f'there already, {size}'}, MD5 right", True


def _finish(outcomes: Sequence[tuple[str, bool]], options: argparse.Namespace) -> int:
    for line, is_right in outcomes:
        if not (is_right and options.quiet):
            print(line, file=sys.stdout if is_right else sys.stderr)
    wrong = [line for line, is_right in outcomes if not is_right]
    if wrong:
        advice = "" if options.verify_only else "; run the same command again to go on with what can be had"
        return _fail(FAILED, f"{len(wrong)} of {numbered(len(outcomes), 'archive')} are not there and right{advice}")
    if not options.quiet:
        print(f"next: python -m jobs.featurize {options.dest}\nMIMII is CC BY-SA 4.0, {RECORD}")
    return OK


@contextmanager
def _stopping_at_interrupts(stop: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _fail(status: int, message: str) -> int:
    print(f"fetch: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
