"""Which engine of the processor is faster where nothing says so: tried once on this machine, and kept."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtime.bundle import Bundle
from runtime.choice.decision import Plan
from runtime.choice.trials import KIND, Trial, read_trials, write_trials
from runtime.files.decode import decode
from runtime.process.apart import ask_apart
from runtime.process.cache import cache_folder

__all__ = ["kept_trials", "make_trials"]

# What batches may take in all; opening both engines comes to it, and the start of a process.
_SECONDS = 2.0
# After so long a process that has not answered is ended, and after so long nobody waits for another's trial.
_LONGEST, _WAIT = 60.0, 90.0
_LOCK = ".lock"
_LOG = logging.getLogger("runtime")


def kept_trials(bundle: Bundle, plans: Sequence[Plan]) -> dict[str, Trial]:
    """What was measured earlier of these engines side by side: part → trial, of the parts that there is one of."""
    kept = read_trials(bundle)
    threads = plans[0].threads
    found = {}
    for part, precisions in _questions(plans).items():
        answer = next((trial for trial in kept if trial.answers(part, threads, precisions)), None)
        if answer is not None:
            found[part] = answer
    return found


def make_trials(bundle: Bundle, plans: Sequence[Plan]) -> dict[str, Trial]:
    """As `kept_trials`; what is missing is measured, in a process of its own, within about 2 seconds beside opening.

    One process of this user measures at a time, the others wait for what it finds. Where nothing can be kept nothing is
    measured: every process would pay for it again. A fault is kept as well, so that it costs time once.
    """
    found = kept_trials(bundle, plans)
    questions = _questions(plans)
    if len(found) == len(questions):
        return found
    folder = cache_folder(KIND)
    if folder is None:
        return found
    with _held(folder / _LOCK) as held:
        found = kept_trials(bundle, plans)
        missing = {part: precisions for part, precisions in questions.items() if part not in found}
        if not missing or not held:
            return found
        engines = ", ".join(plan.provider.name for plan in plans)
        _LOG.info("Trying %s side by side for about %g s, once on this machine", engines, _SECONDS)
        made = _measured(bundle, missing, plans[0].threads)
        write_trials(bundle, made)
    return found | {trial.part: trial for trial in made}


def _questions(plans: Sequence[Plan]) -> dict[str, dict[str, str]]:
    """Part → engine → what it would compute in."""
    return {part: {plan.provider.name: plan.choices[part].precision for plan in plans} for part in plans[0].choices}


def _measured(bundle: Bundle, questions: Mapping[str, dict[str, str]], threads: int) -> list[Trial]:
    asked = {"bundle": str(bundle.root), "parts": questions, "threads": threads, "seconds": _SECONDS}
    answer, fault = ask_apart("runtime.choice.trial_process", [json.dumps(asked)], _LONGEST)
    if answer is not None:
        try:
            made: tuple[Trial, ...] = decode(tuple[Trial, ...], answer.get("trials"), "trials")
            return list(made)
        except ValueError as error:
            fault = str(error)
    _LOG.warning("Engines could not be tried side by side: %s", fault)
    return [Trial(part, threads, precisions, {}, 0, str(fault)) for part, precisions in questions.items()]


@contextlib.contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Hold a lock file, waiting for whoever has it; false where that took too long.

    Where there is no such lock, as on Windows and some network file systems, nobody waits.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    end = time.monotonic() + _WAIT
    try:
        stream = file.open("a")
    except OSError:
        yield True
        return
    with stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    yield False
                    return
                time.sleep(0.05)
                continue
            except OSError:
                pass
            yield True
            return
