"""The parser of every command line of the three packages.

argparse declares the arguments and writes the help. The command line is read here, so that the same rules hold on every
Python: argparse's own reading differs between versions about options among positionals and about `--`.

- Options stand before, between and after positionals; those of a command stand after its name.
- What follows `--` is positional whatever it looks like, a second `--` too.
- An option's value is the next argument, even one that begins with a dash, unless that is an option of the command;
  `--name=value` takes any value.
- Options are written out, not abbreviated. Given twice, the last counts, unless the option says it may be repeated.
- Another argument that begins with a dash is an unknown option, which is an error; but `-` alone, a number below zero
  and a text (with a space in it) are positional.
- Help is given wherever it is asked for, whatever else is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from runtime.process.console import note_stream, print_result

__all__ = ["CommandParser"]

_NUMBER = re.compile(r"-\.?\d")
_LIMITS = {None: (1, 1), "?": (0, 1), "*": (0, sys.maxsize), "+": (1, sys.maxsize)}


class _Given(NamedTuple):
    """An option as it was given; `value` is None for one that takes none."""

    action: argparse.Action
    name: str
    value: str | None


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with the rules above.

    Help is a result, usage and errors are notes, see `runtime.process.console`. Options take one
    value or none; positionals one, `?`, `*` or `+`, or they are commands.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        # Python 3.14 colours help by whether sys.stdout is a terminal, which is not where results go.
        self.color = False

    def parse_known_args(  # type: ignore[override]  # argparse's overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Read a command line; `parse_args` calls this. Nothing is ever left over: what is unknown is an error."""
        found = argparse.Namespace() if namespace is None else namespace
        try:
            self._read(list(sys.argv[1:] if args is None else args), found)
        except argparse.ArgumentError as error:
            self.error(str(error))
        return found, []

    def print_help(self, file: Any = None) -> None:
        """Print the help as a result."""
        print_result(self.format_help().rstrip("\n"))

    def _print_message(self, message: str, file: Any = None) -> None:
        stream = note_stream()
        stream.write(message)
        stream.flush()

    def _read(self, arguments: list[str], namespace: argparse.Namespace) -> None:
        for action in self._actions:
            if argparse.SUPPRESS not in (action.dest, action.default) and not hasattr(namespace, action.dest):
                setattr(namespace, action.dest, _default(action))
        for name, value in self._defaults.items():
            setattr(namespace, name, value)
        places = [action for action in self._actions if not action.option_strings]
        commands = places[0] if places and places[0].nargs == argparse.PARSER else None
        options, positionals, unknown = self._separate(arguments, commands is not None)
        surplus = [] if commands is not None else positionals[sum(_limits(place)[1] for place in places) :]
        if unknown:
            self._refuse(unknown, surplus, commands is not None)
        self._check_groups(options)
        given = {each.action for each in options}
        missing = [each for each in self._actions if each.required and each.option_strings and each not in given]
        if commands is not None:
            if positionals:
                self._run_command(commands, positionals, namespace)
            else:
                missing = [commands, *missing]
            places = []
        taken, short = _assign(places, positionals)
        if short or missing:
            names = ", ".join(_name(each) for each in [*short, *missing])
            self.error(f"the following arguments are required: {names}")
        for action, name, value in options:
            action(self, namespace, [] if value is None else _converted(action, value), name)
        for place, values in taken:
            if place.nargs is None or (place.nargs == "?" and values):
                setattr(namespace, place.dest, _converted(place, values[0]))
            elif values:
                setattr(namespace, place.dest, [_converted(place, value) for value in values])
        if surplus:
            self._refuse([], surplus, False)

    def _separate(self, arguments: list[str], has_commands: bool) -> tuple[list[_Given], list[str], list[str]]:
        """Options, positionals and unknown options; where there are commands, all from the command's name on."""
        names = {name: action for action in self._actions for name in action.option_strings}
        options: list[_Given] = []
        positionals: list[str] = []
        unknown: list[str] = []
        ahead = takewhile(lambda each: each != "--" and (not has_commands or _looks_like_option(each)), arguments)
        if any(each in names and names[each].dest == "help" for each in ahead):
            self.print_help()
            self.exit()
        waiting = arguments[::-1]
        while waiting:
            argument = waiting.pop()
            name, equals, value = argument.partition("=")
            if argument == "--" or (has_commands and not _looks_like_option(argument)):
                positionals += [] if argument == "--" else [argument]
                positionals += waiting[::-1]
                break
            if argument in names or (equals and name in names):
                action = names[argument if argument in names else name]
                explicit = value if argument not in names else None
                options.append(_Given(action, name, _value(action, explicit, waiting, names)))
            elif _looks_like_option(argument):
                unknown.append(argument)
            else:
                positionals.append(argument)
        return options, positionals, unknown

    def _refuse(self, unknown: list[str], surplus: list[str], has_commands: bool) -> None:
        hints = []
        names = [name for action in self._actions for name in action.option_strings]
        for argument in unknown:
            hints += _meant(argument.partition("=")[0], names)
        if unknown and not hints:
            if has_commands:
                hints = ["options stand after the command"]
            else:
                hints = [f"what begins with a dash and is no option stands after --, as in: -- {unknown[0]}"]
        self.error("; ".join([f"unrecognized arguments: {' '.join([*unknown, *surplus])}", *dict.fromkeys(hints)]))

    def _check_groups(self, options: Iterable[_Given]) -> None:
        for group in self._mutually_exclusive_groups:
            named = list(dict.fromkeys(each.action for each in options if each.action in group._group_actions))
            if len(named) > 1:
                raise argparse.ArgumentError(named[1], f"not allowed with argument {_name(named[0])}")
            if group.required and not named:
                self.error(f"one of the arguments {' '.join(map(_name, group._group_actions))} is required")

    def _run_command(self, commands: argparse.Action, given: list[str], namespace: argparse.Namespace) -> None:
        name, *rest = given
        parsers: Any = commands.choices
        if name not in parsers:
            raise argparse.ArgumentError(commands, _no_choice(name, parsers))
        parsers[name].parse_known_args(rest, namespace)


def _looks_like_option(argument: str) -> bool:
    name = argument.partition("=")[0]
    return len(argument) > 1 and argument.startswith("-") and not (_NUMBER.match(argument) or re.search(r"\s", name))


def _value(
    action: argparse.Action, explicit: str | None, waiting: list[str], names: dict[str, argparse.Action]
) -> str | None:
    """The value of an option, which may be the next argument."""
    if action.nargs == 0:
        if explicit is not None:
            raise argparse.ArgumentError(action, f"takes no value, but {explicit!r} came")
        return None
    if explicit is not None:
        return explicit
    if not waiting or waiting[-1] == "--":
        raise argparse.ArgumentError(action, "expected one argument")
    following = waiting[-1]
    if following in names or ("=" in following and following.partition("=")[0] in names):
        how = f"{_name(action)}={following}"
        raise argparse.ArgumentError(action, f"expected one argument, but an option came; if it is the value: {how}")
    return waiting.pop()


def _limits(place: argparse.Action) -> tuple[int, int]:
    return _LIMITS[place.nargs]  # type: ignore[index]  # others are not declared, which a test holds


def _assign(
    places: Sequence[argparse.Action], given: Sequence[str]
) -> tuple[list[tuple[argparse.Action, Sequence[str]]], list[argparse.Action]]:
    """Share positionals out, each place taking what those after it can do without; returns them, and what lacks one."""
    taken, short = [], []
    for number, place in enumerate(places):
        least, most = _limits(place)
        spare = len(given) - sum(_limits(later)[0] for later in places[number + 1 :])
        count = min(most, max(spare, least))
        values, given = given[:count], given[count:]
        taken.append((place, values))
        if len(values) < least:
            short.append(place)
    return taken, short


def _default(action: argparse.Action) -> Any:
    if action.nargs == "*" and not action.option_strings and action.default is None:
        return []
    return _converted(action, action.default) if isinstance(action.default, str) else action.default


def _converted(action: argparse.Action, given: str) -> Any:
    convert: Any = action.type or str
    try:
        value = convert(given)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentError(action, str(error)) from None
    except (TypeError, ValueError):
        name = getattr(convert, "__name__", repr(convert)).lstrip("_")
        raise argparse.ArgumentError(action, f"invalid {name} value: {given!r}") from None
    if action.choices is not None and value not in action.choices:
        raise argparse.ArgumentError(action, _no_choice(given, action.choices))
    return value


def _no_choice(given: str, choices: Iterable[Any]) -> str:
    names = [str(choice) for choice in choices]
    return "; ".join([f"invalid choice: {given!r} (choose from {', '.join(names)})", *_meant(given, names)])


def _meant(given: str, names: Sequence[str]) -> list[str]:
    """A question, or nothing."""
    from difflib import get_close_matches

    longer = [name for name in names if len(given) > 2 and name.startswith(given)]
    close = longer if len(longer) == 1 else get_close_matches(given, names, 1)
    return [f"did you mean {each}?" for each in close]


def _name(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    return "/".join(action.option_strings) or metavar or action.dest
