"""Which engine was faster when they were tried side by side on this machine: kept in the user's cache folder."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from runtime.choice.tuned import NOUNS, files_digest, kept_file, this_machine
from runtime.files import read_json
from runtime.files.decode import decode
from runtime.files.whole_file import whole_file

__all__ = ["KIND", "Trial", "read_trials", "write_trials"]

SCHEMA_VERSION = 1
# Name of the cache folder.
KIND = "trial"
_LOG = logging.getLogger("runtime")


@dataclass(frozen=True)
class Trial:
    """Engines side by side on one part of a bundle.

    Attributes:
        part: "text" or "image".
        threads: that computed.
        precisions: engine → what it computed in.
        milliseconds: engine → time of a batch, the median; those that failed are missing.
        rounds: how often each was measured.
        fault: why nothing is known; "" where something is.
    """

    part: str
    threads: int
    precisions: dict[str, str]
    milliseconds: dict[str, float]
    rounds: int
    fault: str = ""

    def answers(self, part: str, threads: int, precisions: dict[str, str]) -> bool:
        """Whether it is about these engines, in these precisions, with so many threads."""
        return (self.part, self.threads, self.precisions) == (part, threads, precisions)


@dataclass(frozen=True)
class _Kept:
    schema_version: int
    machine: dict[str, str]
    bundle: str
    trials: tuple[Trial, ...]


def read_trials(bundle: Bundle) -> tuple[Trial, ...]:
    """What was measured of this bundle on this machine, with these versions of the engines.

    A file that cannot be used counts as none, with a line of the logger "runtime" at level WARNING. It never raises.
    """
    machine = this_machine()
    file = kept_file(KIND, bundle, machine)
    try:
        if file is None or not file.is_file():
            return ()
        data: Any = read_json(file)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version!r}, {SCHEMA_VERSION} is expected")
        kept: _Kept = decode(_Kept, data, file.name)
        if (kept.bundle, kept.machine) != (files_digest(bundle), machine):
            raise ValueError("it belongs to another bundle or machine, or to other versions of the engines")
        for trial in kept.trials:
            _check(trial)
    except (OSError, ValueError) as error:
        _LOG.warning("%s is not used: %s", file, error)
        return ()
    return kept.trials


def write_trials(bundle: Bundle, trials: Sequence[Trial]) -> Path | None:
    """Keep them beside those kept earlier, of which they replace those that answer the same.

    Returns:
        The file; None where it cannot be written, with a line of the logger "runtime" at level WARNING.
    """
    machine = this_machine()
    file = kept_file(KIND, bundle, machine)
    if file is None:
        return None
    earlier = [
        old
        for old in read_trials(bundle)
        if not any(new.answers(old.part, old.threads, old.precisions) for new in trials)
    ]
    kept = _Kept(SCHEMA_VERSION, machine, files_digest(bundle), (*earlier, *trials))
    try:
        with whole_file(file) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(kept), indent=1), encoding="utf-8")
    except OSError as error:
        _LOG.warning("Which engine is faster could not be kept, and will be measured again: %s", error)
        return None
    return file


def _check(trial: Trial) -> None:
    """Hold against each value what no type says."""
    sane = trial.part in NOUNS and trial.threads >= 1 and set(trial.milliseconds) <= set(trial.precisions)
    sane = sane and all(math.isfinite(time) and time > 0 for time in trial.milliseconds.values())
    if not sane or bool(trial.fault) == bool(trial.milliseconds):
        raise ValueError(f"it has an impossible row: {trial}")
