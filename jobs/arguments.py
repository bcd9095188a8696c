"""Arguments that all commands share, even those that need no engine: so ``--help`` imports nothing heavy."""

import argparse

from mimii.storage import TIMEOUT, Access, OptionError, Options, parse_options

DEFAULT_SOURCE = "data/raw"


def count(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"must be a whole number of at least 1, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def location(text: str) -> str:
    """Read a path, a ``file://`` or an ``s3://`` URL, for argparse."""
    scheme, separator, path = text.partition("://")
    if not text:
        msg = "must not be empty"
        raise argparse.ArgumentTypeError(msg)
    if not separator:
        return text
    if "@" in path.partition("/")[0]:
        msg = "a URL must hold no user name or password: set AWS_ACCESS_KEY_ID and so on, or use a profile"
        raise argparse.ArgumentTypeError(msg)
    if scheme == "s3" and path.strip("/"):
        return text
    if scheme != "file":
        msg = f"{text}: must be a path of this machine or s3://bucket/prefix"
        raise argparse.ArgumentTypeError(msg)
    return path


def storage_option(text: str) -> Options:
    """Read ``KEY=VALUE``, for argparse."""
    try:
        return parse_options([text])
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_storage_option(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add ``--storage-option``; return its group."""
    group = parser.add_argument_group(
        "S3", "credentials, region and endpoint come from the environment or a profile, as for the aws command"
    )
    group.add_argument(
        "--storage-option",
        type=storage_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of s3fs.S3FileSystem, such as anon=true, profile=NAME, endpoint_url=URL or "
        "client_kwargs.region_name=NAME; may be given several times",
    )
    return group


def source_access(options: argparse.Namespace, timeout: float = TIMEOUT) -> Access:
    """Return how to access recordings on S3, from ``--storage-option``."""
    return Access(sum(options.storage_option, ()), timeout)
