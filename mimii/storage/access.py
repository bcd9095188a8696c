"""How S3 is accessed: options that travel from the command line to all workers, and never a secret among them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

TIMEOUT = 30.0
"""How many seconds a request is tried again: a server that restarts is back by then."""

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
    options : tuple of (str, str), or mapping
        Arguments for s3fs: those of a mapping, such as ``{"endpoint_url": "http://10.0.0.5:9000"}``, or from
        `parse_options`.
    timeout : float
        How many seconds a request is tried again while there is no useful answer.

    Raises
    ------
    OptionError
        If an argument in a mapping is a secret.

    """

    options: Options | Mapping[str, Any] = ()
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """Write a mapping as pairs, which can be hashed."""
        if isinstance(self.options, Mapping):
            object.__setattr__(self, "options", parse_options(list(_as_pairs(self.options))))

    @property
    def pairs(self) -> Options:
        """The arguments, as pairs of texts."""
        return cast("Options", self.options)


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
            msg = f"{key}: a URL with a user name or password in it: a secret cannot be an option"
            raise OptionError(msg)
        options.append((key, value))
    for key in _nested_keys(nest_options(options)):
        if key.lower() in _SECRET_OPTIONS:
            msg = (
                f"{key}: a secret cannot be an option: everybody on the machine can read a command line; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile (profile=NAME) or a role"
            )
            raise OptionError(msg)
    return tuple(options)


def _as_pairs(options: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield ``a.b=1`` for ``{"a": {"b": 1}}``."""
    for name, value in options.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _as_pairs(value, f"{key}.")
        else:
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"


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
