"""Parsers as data, so that another Python reads the same command lines; run there as a script, it needs no package.

Standard input: JSON {"parsers": {name: declared}, "cases": [[name, [argument, …]], …]}. Standard output: JSON, what
`outcome` gives for each case.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from runtime.commands.parsing import CommandParser

_KINDS = {"_StoreAction": "store", "_StoreTrueAction": "store_true", "_AppendAction": "append"}


def declared(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """What a parser and its commands declare, without types."""
    actions, commands = [], None
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = {name: declared(each) for name, each in action.choices.items()}
        elif action.dest != "help":
            actions.append(
                {
                    "flags": action.option_strings,
                    "dest": action.dest,
                    "kind": _KINDS[type(action).__name__],
                    "nargs": action.nargs,
                    "required": action.required,
                    "choices": None if action.choices is None else list(action.choices),
                    "metavar": action.metavar,
                    "help": action.help,  # 3.14 looks at it when it is declared
                }
            )
    groups = [[each.dest for each in group._group_actions] for group in parser._mutually_exclusive_groups]
    return {"prog": parser.prog, "actions": actions, "groups": groups, "commands": commands}


def built(told: dict[str, Any], parser: CommandParser | None = None) -> CommandParser:
    """The parser that was declared so."""
    parser = parser or CommandParser(prog=told["prog"])
    groups = {name: parser.add_mutually_exclusive_group() for names in told["groups"] for name in names[:1]}
    group_of = {name: groups[names[0]] for names in told["groups"] for name in names}
    for each in told["actions"]:
        more: dict[str, Any] = {"help": each["help"]}
        if each["kind"] != "store_true":
            more |= {"choices": each["choices"], "metavar": each["metavar"]}
        if each["flags"]:
            more |= {"dest": each["dest"], "required": each["required"]}
            if each["kind"] == "append":
                more["default"] = []
        else:
            more["nargs"] = each["nargs"]
        names = each["flags"] or [each["dest"]]
        group_of.get(each["dest"], parser).add_argument(*names, action=each["kind"], **more)
    if told["commands"] is not None:
        commands = parser.add_subparsers(required=True, metavar="COMMAND")
        for name, command in told["commands"].items():
            built(command, commands.add_parser(name))
    return parser


def outcome(parser: CommandParser, arguments: list[str]) -> Any:
    """The options as a dictionary, or the last line of the error with its exit status."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            return vars(parser.parse_args(arguments))
    except SystemExit as error:
        return [error.code, said.getvalue().strip().splitlines()[-1:]]


if __name__ == "__main__":
    request = json.load(sys.stdin)
    parsers = {name: built(told) for name, told in request["parsers"].items()}
    json.dump([outcome(parsers[name], arguments) for name, arguments in request["cases"]], sys.stdout)
