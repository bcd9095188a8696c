"""How S3 is accessed: options that travel from the command line to all workers, and never a secret among them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0
"""Seconds of retries: a server that restarts is back by then."""

SHORT_TIMEOUT = 10.0
"""The same where somebody is waiting: before the work has begun."""

_SECRET_OPTIONS = {
    *("key", "secret", "token", "username", "password"),
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
}

Options = tuple[tuple[str, str], ...]


class OptionError(ValueError):
    """A storage option that makes no sense or discloses a secret; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """How S3 is accessed. It travels to workers; credentials do not: each process finds its own, as AWS tools do.

    Attributes
    ----------
    options : tuple of (str, str)
        Arguments for s3fs, from `parse_options`.
    timeout : float
        Seconds of retries while there is no useful answer.

    """

    options: Options = ()
    timeout: float = TIMEOUT


DEFAULT_ACCESS = Access()
"""As the environment says."""


def parse_options(pairs: Sequence[str]) -> Options:
    """Parse KEY=VALUE from a command line; raise OptionError where one cannot be used or holds a secret."""
    options = []
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not all(key.split(".")):
            msg = f"a storage option is KEY=VALUE, not {key!r}"
            raise OptionError(msg)
        if "@" in urlsplit(value).netloc:
            msg = f"{key}: a URL with a user name or password in it; secrets do not belong on a command line"
            raise OptionError(msg)
        options.append((key, value))
    for key in _nested_keys(nest_options(options)):
        if key.lower() in _SECRET_OPTIONS:
            msg = (
                f"{key}: secrets do not belong on a command line, where everybody on the machine can read them; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile (profile=NAME) or a role"
            )
            raise OptionError(msg)
    return tuple(options)


def nest_options(options: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return options as arguments: ``a.b=1`` is ``{"a": {"b": 1}}``."""
    nested: dict[str, Any] = {}
    for key, value in options:
        *above, last = key.split(".")
        inner = nested
        for name in above:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise _both(name)
        if isinstance(inner.get(last), dict):
            raise _both(last)
        inner[last] = _value(value)
    return nested


def _both(name: str) -> OptionError:
    return OptionError(f"storage options: {name} cannot have a value and more options below it")


def _value(text: str) -> Any:  # noqa: ANN401  an argument of any type
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nested_keys(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        yield key
        if isinstance(value, dict):
            yield from _nested_keys(value)
