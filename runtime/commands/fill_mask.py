"""Print the likeliest words for the [MASK] of texts."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.commands.argument_types import as_text, count
from runtime.commands.arguments import add_bundle, add_engine_options, add_json, load_engine
from runtime.errors import InputError
from runtime.files import read_json
from runtime.process import print_json, print_result

NAME = "fill-mask"
SUMMARY = "Print the likeliest words for the [MASK] of texts."
_TOP_K = 5
_EXAMPLE = '{"inputs": "Small [MASK] effusion", "parameters": {"top_k": 5, "targets": ["left", "right"]}}'


@dataclass(frozen=True)
class _Request:
    """What the model's hosted endpoint is sent."""

    inputs: str | list[str]
    top_k: int = _TOP_K
    targets: list[str] | str | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument(
        "texts", type=as_text, nargs="*", metavar="TEXT", help='a text with one or more [MASK], such as "Small [MASK]"'
    )
    parser.add_argument("--top-k", type=count, metavar="N", help=f"words per mask ({_TOP_K})")
    parser.add_argument(
        "--targets", type=as_text, metavar="A,B,…", help="ask about these words alone; scores stay those among all"
    )
    add_json(parser, ", as transformers' fill-mask pipeline answers")
    parser.add_argument(
        "--json-input",
        metavar="FILE",
        help=f"read a request as the model's hosted endpoint takes it (- is standard input), print JSON: {_EXAMPLE}",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    request = _request(options)
    engine = load_engine(options, ["text"])
    answer = engine.text.fill_mask(request.inputs, request.top_k, request.targets)
    if options.json or options.json_input:
        print_json(answer)
    else:
        _print(request.inputs, answer)


def _request(options: argparse.Namespace) -> _Request:
    if not options.json_input:
        if not options.texts:
            raise InputError("No text was given. Give one with a [MASK], or a request with --json-input FILE.")
        targets = options.targets.split(",") if options.targets is not None else None
        inputs = options.texts[0] if len(options.texts) == 1 else options.texts
        return _Request(inputs, options.top_k or _TOP_K, targets)
    if options.texts or options.top_k or options.targets is not None:
        raise InputError(
            "--json-input holds texts, top_k and targets itself; give either it or TEXT, --top-k, --targets."
        )
    return _read(options.json_input)


def _read(name: str) -> _Request:
    where = "standard input" if name == "-" else name
    try:
        data = read_json(None if name == "-" else Path(name))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read as JSON: {error}") from None
    faults = _faults(data)
    if faults:
        raise InputError(f"{where} is no request: {'; '.join(faults)}. Expected is, for example, {_EXAMPLE}")
    parameters = {key: value for key, value in (data.get("parameters") or {}).items() if value is not None}
    return _Request(data["inputs"], **parameters)


def _faults(data: Any) -> list[str]:
    """Everything that is wrong with a request."""
    if not isinstance(data, dict):
        return [f"it is a {type(data).__name__}, not an object"]
    faults = [f"unknown key '{key}'" for key in data if key not in ("inputs", "parameters")]
    if not _is_text(data.get("inputs")):
        faults.append("'inputs' must be a text or a list of texts")
    parameters = {} if data.get("parameters") is None else data["parameters"]
    if not isinstance(parameters, dict):
        return [*faults, f"'parameters' is a {type(parameters).__name__}, not an object"]
    faults += [f"unknown parameter '{key}'" for key in parameters if key not in ("top_k", "targets")]
    top_k = parameters.get("top_k")
    if not isinstance(top_k, (int, type(None))) or isinstance(top_k, bool):
        faults.append("'top_k' must be a whole number")
    if parameters.get("targets") is not None and not _is_text(parameters["targets"]):
        faults.append("'targets' must be a list of words")
    return faults


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _print(inputs: str | list[str], answer: list[Any]) -> None:
    texts, answers = ([inputs], [answer]) if isinstance(inputs, str) else (inputs, answer)
    for text, masks in zip(texts, answers, strict=True):
        print_result(text)
        words = [masks] if isinstance(masks[0], dict) else masks
        width = max(len(each["token_str"]) for mask in words for each in mask)
        for number, mask in enumerate(words, start=1):
            if len(words) > 1:
                print_result(f"  mask {number}")
            for each in mask:
                print_result(f"  {each['score']:.4f}  {each['token_str']:{width}}  {each['sequence']}")
