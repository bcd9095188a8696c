"""Read a command line: options that were renamed, and options that have no effect beside the others."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mimii.storage import did_you_mean

_OLD_NAMES_GO = "0.2.0"
_USED = "renamed_options"
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class NoEffect:
    """An option that is refused where it has no effect, so that the user is surely mistaken.

    Attributes
    ----------
    option : str
        Its name in the namespace.
    applies : callable
        Whether it has no effect, from all options.
    reason : str
        Why, and what to do; the values of options may be in it in braces.

    """

    option: str
    applies: Callable[[argparse.Namespace], bool]
    reason: str


def add_old_name(group: argparse._ActionsContainer, new: argparse.Action, *old: str) -> None:
    """Take an option by its old name, too, which the help does not show; `read_options` warns of it."""
    group.add_argument(
        *old,
        action=_OldName,
        dest=new.dest,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
        **{name: getattr(new, name) for name in ("nargs", "const", "type", "choices", "metavar")},
        new_name=new.option_strings[0],
    )


class _OldName(argparse.Action):
    """Sets the option by its new name, and notes that the old one was used."""

    def __init__(self, *, new_name: str, **settings: Any) -> None:  # noqa: ANN401  those of argparse
        super().__init__(**settings)
        self._new_name = new_name

    def __call__(
        self, _parser: argparse.ArgumentParser, options: argparse.Namespace, value: object, name: str | None = None
    ) -> None:
        setattr(options, self.dest, self.const if self.nargs == 0 else value)
        setattr(options, _USED, {**getattr(options, _USED, {}), name: self._new_name})


def read_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, rules: Iterable[NoEffect] = ()
) -> argparse.Namespace:
    """Read the command line; warn of old names, and exit with status 2 where an option that was given has no effect."""
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(unknown, parser.format_help())}")
    for old, new in vars(options).pop(_USED, {}).items():
        print(f"{old} is {new} now; the old name goes with version {_OLD_NAMES_GO}", file=sys.stderr)
    options.given = _find_given(parser, arguments, options)
    check_effects(parser, options, rules)
    return options


def _meant(unknown: Iterable[str], help_text: str) -> str:
    """Return the options of the help that come close to what was given; empty where none does."""
    given = (word.partition("=")[0] for word in unknown if word.startswith("--"))
    return did_you_mean(given, re.findall(r"--[a-z][a-z-]+", help_text))


def check_effects(parser: argparse.ArgumentParser, options: argparse.Namespace, rules: Iterable[NoEffect]) -> None:
    """Exit with status 2 where an option that was given has no effect."""
    for rule in rules:
        if rule.option in options.given and rule.applies(options):
            name = f"--{rule.option.replace('_', '-')}"
            parser.error(f"argument {name}: {rule.reason.format(**vars(options))}")


def _find_given(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, options: argparse.Namespace
) -> frozenset[str]:
    """Return which options were given, also with their default; of lists, those with another value than the default."""
    lists = {name for name, value in vars(options).items() if isinstance(value, list)}
    given = {name for name in lists if getattr(options, name) != parser.get_default(name)}
    parser.set_defaults(**dict.fromkeys(vars(options).keys() - lists, _ABSENT))
    again = vars(parser.parse_args(arguments))
    return frozenset(given | {name for name, value in again.items() if name not in lists and value is not _ABSENT})
