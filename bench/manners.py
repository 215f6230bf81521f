"""Does the bundle's text folder open in the tools that people use, and with the same numbers?

Each tool runs in a process of its own in the environment that `make peers` sets up, and is compared with the runtime's
fp32. A tool that crashes or hangs is one row's reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from bench.errors import PeerError
from bench.peers.openers import MASKS, OPENERS, Opener
from bench.record import Manner
from runtime.bundle import EMBEDDING, FILL_MASK, open_bundle
from runtime.commands.argument_types import positive
from runtime.commands.arguments import add_json
from runtime.process import print_json, print_note, print_result

__all__ = ["NAME", "SUMMARY", "add_options", "check_manners", "print_manners", "run"]

NAME = "manners"
SUMMARY = "whether the text folder opens in optimum, sentence-transformers and fastembed, with the same numbers"

_ROOT = Path(__file__).resolve().parent.parent
# No trailing "!?.": only the reference and this engine strip them. Of one token to some hundred, to be padded together.
_TEXTS = (
    "Pneumonia",
    "No pleural effusion",
    "Cardiomegaly, unchanged; the LEFT hemidiaphragm is obscured (2.5 cm)",
    "There is a small right apical pneumothorax without tension. Lines and tubes are in place. " * 6 + "No fracture",
)
_MASKED = (
    "Moderate [MASK] pleural effusions",
    "[MASK] heart size",
    "There is no [MASK] and no pleural effusion, the mediastinum is unchanged, lungs are clear.",
)
# The bound of fp32 at an export, for embeddings of unit norm and for probabilities.
_EXACT = 1e-5
# Of logarithms of probabilities, which is of logits: most words are less likely than `_EXACT`, so that 0 would do for
# them. 1e-3 is a thousandth of a word's score; rounding in fp32 stays far below, other words' logits are far above.
_LOGARITHM = 1e-3
_WORDS = 50
_SECONDS = 300.0
_SAID = 600


@dataclass(frozen=True)
class _Expected:
    """The runtime's answers: embeddings, and for each mask the best words (texts, `_WORDS`) with their scores."""

    embeddings: NDArray[Any]
    words: NDArray[Any]
    scores: NDArray[Any]


def check_manners(bundle: Path, python: Path | None, seconds: float = _SECONDS) -> list[Manner]:
    """Open the text folder in every tool.

    Args:
        bundle: a bundle with a text part in fp32.
        python: interpreter of the environment with the tools; None says so in every row.
        seconds: that a tool may take.

    Returns:
        A row for each tool of `bench.peers.openers`; none for a bundle without texts.

    Raises:
        BundleError: no bundle there.
        PeerError: it has no fp32 text graph, or the interpreter is not there.
    """
    opened = open_bundle(bundle)
    if "text" not in opened.parts():
        return []
    for role in (EMBEDDING, FILL_MASK):
        if not any(found.precision == "fp32" for found in opened.artifacts("text", role=role)):
            raise PeerError(f"{bundle} has no {role} graph in fp32 to compare with. Export it with: --precision fp32,…")
    if python is None:
        reason = "it runs in an environment of its own; set it up with: make peers"
        return [Manner(tool, "", None, reason=reason) for tool in OPENERS]
    if not python.is_file():
        raise PeerError(f"there is no Python at {python}; set it up with: make peers")
    expected = _expected(bundle)
    with tempfile.TemporaryDirectory(prefix="cxr-manners-") as folder:
        return [_check(opener, bundle, python, seconds, expected, Path(folder)) for opener in OPENERS.values()]


def _expected(bundle: Path) -> _Expected:
    text = runtime.load(bundle, provider="cpu", precision="fp32", parts=["text"]).text
    filled = text.fill_mask(list(_MASKED), min(_WORDS, text.tokenizer.vocabulary_size))
    words, scores = (np.array([[word[key] for word in one] for one in filled]) for key in ("token", "score"))
    return _Expected(text.encode(_TEXTS), words, scores)


def _check(opener: Opener, bundle: Path, python: Path, seconds: float, expected: _Expected, folder: Path) -> Manner:
    texts = _MASKED if opener.kind == MASKS else _TEXTS
    answer, said, request = (folder / name for name in ("answer.npy", "said.json", "request.json"))
    for file in (answer, said):
        file.unlink(missing_ok=True)
    told = {"tool": opener.tool, "folder": str((bundle / "text").resolve()), "texts": texts}
    request.write_text(json.dumps({**told, "answer": str(answer), "said": str(said)}), encoding="utf-8")
    fault = _run([str(python), "-m", "bench.peers.openers", str(request)], seconds)
    found = json.loads(said.read_text(encoding="utf-8")) if said.is_file() else {}
    version = str(found.get("version", ""))
    if "missing" in found:
        reason = f"{found['missing']} is not installed there; set it up with: make peers"
        return Manner(opener.tool, version, None, reason=reason)
    if fault or "error" in found or not answer.is_file():
        reason = found.get("error") or fault or "it said nothing"
        return Manner(opener.tool, version, False, reason=_short(reason))
    same, max_abs, wrong = _compare(opener, np.load(answer), expected)
    return Manner(opener.tool, version, True, same, max_abs, wrong or opener.asked)


def _run(command: Sequence[str], seconds: float) -> str:
    """Run a process to its end; returns why it did not come to one, or ""."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    # What is asked lies on this disk.
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s; it was ended"
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode == 0:
        return ""
    # Of a traceback the last line says most; a signal leaves none.
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"it ended with exit status {done.returncode}" + (f": {lines[-1]}" if lines else "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SAID else line[: _SAID - 2] + " …"


def _compare(opener: Opener, found: NDArray[Any], expected: _Expected) -> tuple[bool, float | None, str]:
    """Whether an answer is the runtime's, the largest difference, and what is wrong, or ""."""
    if opener.kind != MASKS:
        if found.shape != expected.embeddings.shape:
            return False, None, f"its answer has shape {found.shape}, expected {expected.embeddings.shape}"
        return _judge(float(np.abs(found - expected.embeddings).max()), _EXACT, "an embedding differs")
    if found.ndim != 2 or len(found) != len(expected.words) or found.shape[1] <= expected.words.max():
        return False, None, f"its answer has shape {found.shape}, expected {len(expected.words)} × the vocabulary"
    logarithms = np.take_along_axis(found, expected.words, axis=1)
    same, apart, wrong = _judge(float(np.abs(np.exp(logarithms) - expected.scores).max()), _EXACT, "a score differs")
    if same:
        relative = float(np.abs(logarithms - np.log(expected.scores)).max())
        same, _, wrong = _judge(relative, _LOGARITHM, "the logarithm of a score differs")
    return same, apart, wrong


def _judge(difference: float, bound: float, what: str) -> tuple[bool, float | None, str]:
    # NaN is not the same, and no number for a report.
    if not np.isfinite(difference):
        return False, None, "its answer holds numbers that are not finite"
    same = difference <= bound
    return same, difference, "" if same else f"{what} from the runtime's by {difference:.3g}; at most {bound:g}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench manners`."""
    parser.add_argument("bundle", type=Path, help="a bundle with texts in fp32")
    parser.add_argument(
        "--python",
        type=Path,
        help="interpreter of the environment with the tools (CXR_PEERS_PYTHON, else that of make peers)",
    )
    parser.add_argument("--seconds", type=positive, default=_SECONDS, help=f"that a tool may take ({_SECONDS:.0f})")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print a line for each tool; 1 where one does not open the folder or has other numbers."""
    from dataclasses import asdict

    from bench.measuring.entry import peers_python

    python = options.python or peers_python()
    manners = check_manners(options.bundle, Path(python) if python else None, options.seconds)
    if options.json:
        print_json([asdict(manner) for manner in manners])
    else:
        print_manners(manners)
    return int(any(manner.opens is False or manner.same is False for manner in manners))


def print_manners(manners: Sequence[Manner]) -> None:
    """A line for each tool, and how to ask it or why not."""
    if not manners:
        print_note("The bundle has no text part for other tools to open.")
    for manner in manners:
        if manner.opens is None:
            verdict = "not tried"
        elif not manner.opens:
            verdict = "does not open"
        elif not manner.same:
            verdict = "opens, other numbers"
        else:
            verdict = f"opens, the same numbers (largest difference {manner.max_abs:.1e})"
        print_result(f"{manner.tool} {manner.version}".rstrip() + f": {verdict}\n    {manner.reason}")
