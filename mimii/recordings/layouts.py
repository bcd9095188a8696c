"""Layouts that users say: patterns of paths such as ``{site}/{machine_id}/*_{label}.wav``."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from mimii.recordings.clips import Identity
from mimii.recordings.columns import COLUMNS, column_problem, seconds_since_1970

_TIME = "recorded_at"
_TOKEN = re.compile(r"\{(?P<name>[^{}:]*)(?::(?P<time>[^{}]*))?\}|(?P<any>\*+)|(?P<brace>[{}])|(?P<text>[^{}*]+)")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "j": r"\d{1,3}",
    "b": r"[^\W\d_]+",
    "B": r"[^\W\d_]+",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "p": "[AaPp][Mm]",
    "M": r"\d{1,2}",
    "S": r"\d{1,2}",
    "f": r"\d{1,6}",
    "z": r"(?:Z|[-+]\d\d:?\d\d)",
    "%": "%",
}


class LayoutError(ValueError):
    """A pattern that is not valid; the message says where and what to do."""


class _Token(NamedTuple):
    """A piece of a pattern: text, any text (``*``), or a name, of a time with its directives."""

    kind: str
    text: str
    time: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the ends of paths say.

    Attributes
    ----------
    pattern : str
        As the user wrote it.
    expression : re.Pattern
        What matches the last names of a path; a group for each name.
    n_parts : int
        How many names of a path these are.
    time : str
        The directives of ``recorded_at``; empty for ISO 8601.

    """

    pattern: str
    expression: re.Pattern[str]
    n_parts: int
    time: str = ""

    @property
    def folder_names(self) -> frozenset[str]:
        """The names that are of folders, not of the recording itself."""
        folders = self.pattern.rpartition("/")[0]
        return frozenset(name for name in self.expression.groupindex if f"{{{name}" in folders)

    def match(self, path: str) -> Identity | None:
        """Return what a path says; None where it does not match."""
        *above, name = path.split("/")[-self.n_parts :]
        folders = [folder[:-4] if folder.lower().endswith(".zip") else folder for folder in above]
        found = self.expression.fullmatch("/".join((*folders, name)))
        try:
            return self._identity(found.groupdict()) if found else None
        except (KeyError, ValueError):  # it looks like a time or a number, and is none
            return None

    def identify(self, path: str) -> Identity:
        """Return what a path says; nothing where it does not match."""
        return self.match(path) or Identity()

    def _identity(self, texts: dict[str, str]) -> Identity:
        known: dict[str, Any] = {name: self._parse(name, text) for name, text in texts.items() if name in COLUMNS}
        own = tuple(sorted((name, text) for name, text in texts.items() if name not in COLUMNS))
        return Identity(**known, columns=own)

    def _parse(self, name: str, text: str) -> Any:  # noqa: ANN401  what the column has
        if name == _TIME and self.time:
            return seconds_since_1970(datetime.strptime(text, self.time))  # noqa: DTZ007  UTC where it has no offset
        return COLUMNS[name].parse(text)


def read_layout(pattern: str) -> Layout:
    """Read a pattern, such as ``{machine_type}/{machine_id}/{label}/{recorded_at:%Y%m%d-%H%M%S}.wav``.

    It is compared with the end of a path, without regard to case: folders above are free. ``*`` is any text within
    one name; a name in braces is a column. Known ones are those of lists (``machine_type``, ``machine_id``, ``number``,
    ``snr_db``, ``label``, ``split``, ``domain``, ``attributes``, ``recorded_at`` in ISO 8601 or with the directives of
    `time.strptime`); any other name becomes a column of its own. A last name without a suffix stands for any suffix.
    """
    tokens = list(_tokens(pattern, pattern.lstrip("/")))
    _check_names(pattern, [token.text for token in tokens if token.kind == "name"])
    _check_neighbours(pattern, tokens)
    times = [token.time for token in tokens if token.time]
    shape = "".join(token.text if token.kind == "text" else token.time for token in tokens)
    if tokens[-1].text.endswith("/"):
        raise _error(pattern, "it must not end with a slash, but with the name of a file, such as *")
    has_suffix = tokens[-1].kind == "any" or (tokens[-1].kind == "text" and "." in tokens[-1].text)
    body = "".join(map(_expression, tokens)) + ("" if has_suffix else r"\.[^./]+")
    return Layout(pattern, re.compile(body, re.IGNORECASE), 1 + shape.count("/"), *times)


def _tokens(pattern: str, text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match["brace"]:
            raise _error(pattern, f"a brace {match['brace']} without the other one")
        if match["text"]:
            yield _Token("text", match["text"])
        elif match["any"]:
            if match["any"] != "*":
                raise _error(pattern, "** stands for nothing: folders above are free, and * is for one name")
            yield _Token("any", "*")
        else:
            yield _named(pattern, match["name"].strip(), match["time"])


def _named(pattern: str, name: str, time: str | None) -> _Token:
    known = name.lower() if name.lower() in COLUMNS else name
    if not name.isidentifier():
        raise _error(pattern, f"{{{name}}} is no name of a column: take letters, digits and _")
    if known not in COLUMNS and (problem := column_problem(name)):
        raise _error(pattern, f"{{{name}}} is {problem}; take another")
    if time is not None and known != _TIME:
        raise _error(pattern, f"{{{name}:{time}}}: {_TIME} alone has a format")
    return _Token("name", known, _checked_time(pattern, time))


def _checked_time(pattern: str, time: str | None) -> str:
    if time is None:
        return ""
    directives = _DIRECTIVE.findall(time)
    if unknown := [directive for directive in directives if directive not in _DIRECTIVES]:
        known = " ".join(f"%{directive}" for directive in _DIRECTIVES)
        raise _error(pattern, f"%{unknown[0]} is no directive of a time; there are {known}")
    if twice := [directive for directive in directives if directive != "%" and directives.count(directive) > 1]:
        raise _error(pattern, f"%{twice[0]} is there twice")
    if {"Y", "y"}.isdisjoint(directives):
        raise _error(pattern, f"{{{_TIME}:{time}}} has no year: %Y or %y")
    return time


def _check_names(pattern: str, names: Sequence[str]) -> None:
    if not names:
        raise _error(pattern, "it has no name in braces, such as {machine_id}")
    folded = [name.casefold() for name in names]
    if twice := [name for name in names if folded.count(name.casefold()) > 1]:
        raise _error(pattern, f"{{{twice[0]}}} is there twice")


def _check_neighbours(pattern: str, tokens: Sequence[_Token]) -> None:
    """Refuse names without text between them: a recording could be read in several ways."""
    for one, other in itertools.pairwise(tokens):
        if "text" not in (one.kind, other.kind):
            said = "".join(token.text if token.kind == "any" else f"{{{token.text}}}" for token in (one, other))
            raise _error(pattern, f"{said}: there must be text between them, such as _")


def _expression(token: _Token) -> str:
    if token.kind == "text":
        return re.escape(token.text)
    if token.kind == "any":
        return "[^/]*"
    if not token.time:
        column = COLUMNS.get(token.text)
        return f"(?P<{token.text}>{column.pattern if column else '[^/]+'})"
    pieces = enumerate(_DIRECTIVE.split(token.time))  # text, directive, text, ...
    return f"(?P<{token.text}>{''.join(_DIRECTIVES[one] if index % 2 else re.escape(one) for index, one in pieces)})"


def _error(pattern: str, problem: str) -> LayoutError:
    return LayoutError(f"layout {pattern!r}: {problem}")
