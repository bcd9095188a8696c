"""Download the archives of the MIMII data set (Zenodo, CC BY-SA 4.0); interrupted downloads are resumed.

NAME is an archive (6_dB_fan), all of an SNR (6_dB, 0_dB, -6_dB), all of a type of machine (fan, pump, slider, valve),
or all: 12 archives, 100.2 GB. There is no need to unpack them: python -m jobs.featurize reads the zip files. Size and
MD5 are checked while downloading. Run the same command again to resume; archives that are complete are skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.given import NoEffect, add_old_name, read_options
from jobs.options import DEFAULT_SOURCE, STORAGE_RULES, add_storage_option, location, source_access
from jobs.process import INTERRUPTED, heeded, status_of
from jobs.version import add_version
from jobs.words import be, format_bytes, format_table, numbered
from mimii import storage
from mimii.recordings import ARCHIVES, BASE_URL, RECORD, Archive, NameOfArchiveError, archive_url, select

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from jobs.watch import Downloads

OK, FAILED, USAGE = 0, 1, 2
AT_ONCE = 2
_SECONDS_TO_STOP = 3.0
_MISSING = "is missing"
_RULES = (
    *STORAGE_RULES,
    NoEffect("verify_only", lambda options: options.list_archives, "not with --list-archives; use one of them"),
)
_EPILOG = f"""
exit status: 0 all archives are there and correct; 1 some are not; 2 wrong usage;
{INTERRUPTED}.

With --dest s3://..., an archive streams to S3 without a disk in between; if this command is killed, that archive
starts again from its first byte.

examples:
  python -m jobs.fetch 6_dB_fan                        10 GB to {DEFAULT_SOURCE}/6_dB_fan.zip
  python -m jobs.fetch fan 0_dB_valve --dest /mnt/raw
  python -m jobs.fetch all --dest s3://bucket/mimii
  python -m jobs.fetch all --verify-only
"""


@dataclass(frozen=True, slots=True)
class Download:
    """One archive, and the path or S3 URL where it goes."""

    archive: Archive
    wanted: storage.PublishedFile
    target: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line about one archive, and whether it is there and correct."""

    line: str
    is_correct: bool


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.fetch",
        usage="%(prog)s NAME ... [--dest URL] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which archives; see above, and --list-archives")
    parser.add_argument(
        "--dest",
        type=location,
        metavar="URL",
        default=DEFAULT_SOURCE,
        help="where the archives go: a folder, or s3://bucket/prefix; default: %(default)s",
    )
    parser.add_argument(
        "--base-url", metavar="URL", default=BASE_URL, help="the URL that they are below; default: %(default)s"
    )
    parser.add_argument("--verify-only", action="store_true", help="download nothing; check the archives in --dest")
    shown = parser.add_argument(
        "--list-archives", action="store_true", help="list the archives, and which are in --dest; download nothing"
    )
    add_old_name(parser, shown, "--list")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_version(parser)
    add_storage_option(parser)
    return parser


def main(
    arguments: Sequence[str] | None = None,
    archives: Sequence[Archive] = ARCHIVES,
    retrying: storage.Retrying | None = None,
) -> int:
    """Run the command; return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = read_options(make_parser(), [_not_an_option(argument) for argument in given], _RULES)
    try:
        return _run(options, archives, retrying or storage.Retrying())
    except KeyboardInterrupt as interrupt:
        return status_of(interrupt)
    except NameOfArchiveError as error:
        return _fail(USAGE, str(error))
    except BrokenPipeError:  # the output goes to a program that has exited, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (storage.DownloadError, OSError) as error:
        return _fail(FAILED, str(error))


def _not_an_option(argument: str) -> str:
    """Spell ``-6_dB`` so that argparse does not take it for an option."""
    return re.sub(r"^-(?=\d+_?dB)", "min", argument, flags=re.IGNORECASE)


def _run(options: argparse.Namespace, archives: Sequence[Archive], retrying: storage.Retrying) -> int:
    if not options.names and not options.list_archives:
        msg = "which archives? For example 6_dB_fan, 0_dB, fan or all; --list-archives shows them"
        raise NameOfArchiveError(msg)
    downloads = [_download(archive, options) for archive in select(options.names or ["all"], archives)]
    access = source_access(options)
    if options.list_archives:
        print("\n".join(_table(downloads, access)))
        return OK
    if options.verify_only:
        return _finish([_check(download, access) for download in downloads], options)
    downloads = [_with_size(download, retrying) for download in downloads]
    _check_space(downloads)
    return _finish(_fetch_all(downloads, access, retrying, quiet=options.quiet), options)


def _download(archive: Archive, options: argparse.Namespace) -> Download:
    wanted = storage.PublishedFile(archive_url(archive, options.base_url), archive.md5, archive.size)
    return Download(archive, wanted, f"{options.dest.rstrip('/')}/{archive.filename}")


def _with_size(download: Download, retrying: storage.Retrying) -> Download:
    size = storage.published_size(download.wanted, retrying)
    return replace(download, wanted=replace(download.wanted, size=size))


def _stored_size(target: str, access: storage.Access) -> int | None:
    if storage.is_remote(target):
        found = storage.s3.describe(target, access)
        return found.size if found else None
    return os.path.getsize(target) if os.path.exists(target) else None


def _table(downloads: Sequence[Download], access: storage.Access) -> list[str]:
    rows = []
    for download in downloads:
        size, stored = download.wanted.size, _stored_size(download.target, access)
        state = "" if stored is None else "there" if size in (None, stored) else f"there, but {stored:,} bytes"
        rows.append((download.archive.name, f"{size:,}" if size else "not known", download.wanted.md5, state))
    return format_table(("archive", "bytes", "MD5", "in --dest"), rows)


def _check(download: Download, access: storage.Access) -> Outcome:
    target, watcher = download.target, storage.Silent()
    if storage.is_remote(target):
        found = storage.s3.describe(target, access)
        problem = storage.check_object(found, download.wanted, access, watcher) if found else _MISSING
    else:
        path = Path(target)
        problem = storage.check_file(path, download.wanted, watcher) if path.exists() else _MISSING
    return Outcome(f"{target}: {problem or 'correct'}", not problem)


def _check_space(downloads: Sequence[Download]) -> None:
    """Refuse to start without enough free space on the disk."""
    local = [download for download in downloads if not storage.is_remote(download.target)]
    if not local:
        return
    needed = sum(_missing_bytes(download) for download in local)
    folder = next(folder for folder in Path(local[0].target).absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        space = f"{format_bytes(needed)} are needed, and {format_bytes(free)} are free"
        msg = f"{folder}: {space}; choose another --dest"
        raise storage.DownloadError(msg)


def _missing_bytes(download: Download) -> int:
    target = Path(download.target)
    if target.exists() or download.wanted.size is None:
        return 0
    partial = storage.partial_path(target)
    return max(0, download.wanted.size - (partial.stat().st_size if partial.exists() else 0))


def _fetch_all(
    downloads: Sequence[Download], access: storage.Access, retrying: storage.Retrying, *, quiet: bool
) -> list[Outcome]:
    """Fetch two at a time; return the outcome of each. Raises KeyboardInterrupt once all have stopped."""
    from jobs.watch import Downloads

    stop = threading.Event()
    progress = Downloads(stop, quiet=quiet)
    with _stopping_at_interrupts(stop) as received:
        pool = ThreadPoolExecutor(AT_ONCE)
        running = [pool.submit(_fetch, download, access, retrying, progress) for download in downloads]
        try:
            _wait_for(running, stop)
            outcomes = [future.result() for future in running]
        except storage.StoppedError:
            interrupt = KeyboardInterrupt(*received[:1])
            _abandon(running, status_of(interrupt))
            raise interrupt from None
        pool.shutdown()
        return outcomes


def _wait_for(running: Sequence[Future[Outcome]], stop: threading.Event) -> None:
    while wait(running, timeout=0.1).not_done:
        if stop.is_set():
            raise storage.StoppedError


def _abandon(running: Sequence[Future[Outcome]], status: int) -> None:
    """Cancel all downloads; exit at once if one still waits for a server that does not answer."""
    for future in running:
        future.cancel()
    stuck = wait(running, timeout=_SECONDS_TO_STOP).not_done
    _fail(status, "interrupted; downloaded bytes are kept. Run the same command again to resume.")
    if stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _fetch(download: Download, access: storage.Access, retrying: storage.Retrying, progress: Downloads) -> Outcome:
    started, name = time.monotonic(), download.archive.filename
    with progress.of(name) as watcher:
        try:
            if storage.is_remote(download.target):
                is_new = storage.transfer(download.wanted, download.target, access, retrying, watcher)
            else:
                is_new = storage.download(download.wanted, Path(download.target), retrying, watcher)
        except (storage.DownloadError, OSError) as error:
            return Outcome(f"{name}: FAILED: {error}", is_correct=False)
    size = format_bytes(_stored_size(download.target, access) or 0)
    state = f"fetched, {size} in {time.monotonic() - started:.0f} s" if is_new else f"there already, {size}"
    return Outcome(f"{name}: {state}, MD5 correct", is_correct=True)


def _finish(outcomes: Sequence[Outcome], options: argparse.Namespace) -> int:
    for outcome in outcomes:
        if not (outcome.is_correct and options.quiet):
            print(outcome.line, file=sys.stdout if outcome.is_correct else sys.stderr)
    n_wrong = sum(not outcome.is_correct for outcome in outcomes)
    if n_wrong:
        return _fail(FAILED, _describe_wrong(n_wrong, len(outcomes), options))
    if not options.quiet:
        print(f"next: python -m jobs.featurize {options.dest}\nMIMII is CC BY-SA 4.0, {RECORD}")
    return OK


def _describe_wrong(n_wrong: int, n_archives: int, options: argparse.Namespace) -> str:
    which = numbered(n_wrong, "archive") if n_wrong == n_archives else f"{n_wrong} of {n_archives} archives"
    if options.verify_only:
        return f"{which} in {options.dest} {be(n_wrong)} missing or wrong; without --verify-only, they are downloaded"
    return f"{which} could not be downloaded; run the same command again to resume"


@contextmanager
def _stopping_at_interrupts(stop: threading.Event) -> Iterator[list[int]]:
    """Set an event at the first signal; a second one does what it would do elsewhere. Yields those that came."""
    received: list[int] = []
    found = {number: signal.getsignal(number) for number in heeded()}
    before = {number: handler for number, handler in found.items() if handler is not None}  # one of C stays

    def take(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if received and callable(handler):
            handler(number, frame)
        received.append(number)
        stop.set()

    for number in before:
        signal.signal(number, take)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(status: int, message: str) -> int:
    print(f"fetch: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
