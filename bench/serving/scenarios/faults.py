"""Under load the server is told to stop and to reload, its clients leave, its engine raises."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np

import runtime
from bench.serving.checks import Judgement
from bench.serving.faulty_server import MARK
from bench.serving.load.connection import NEVER, UNANSWERED
from bench.serving.load.outcome import LEFT
from bench.serving.load.plan import Stream
from bench.serving.questions import text_questions
from bench.serving.result import SKIPPED, Figure, Result, median
from bench.serving.setting import Setting, check_figures

__all__ = ["disconnects", "exceptions", "reload", "termination"]

_CONNECTIONS = 32
# A reload is waited for in legs of a load, each judged when it is over.
_LEG_SECONDS = 2.0
_LEGS = 60
_END_SECONDS = 60.0
_LEAVE = 0.3
# Of capacity, where the load is to be bearable.
_SHARE = 0.5
_PROGRAM = ("-m", "bench.serving.faulty_server")
# A run of words that no text of the corpus holds.
_MARK = "zebra zebra zebra zebra"
_MARKED = 0.03
# A request that was sent so shortly before its connection ended may have crossed the server's goodbye.
_CROSSED = 0.02


def termination(setting: Setting) -> Result:
    """SIGTERM under load, several times: every request that was taken is answered."""
    questions = setting.questions
    lost, crossed, statuses, seconds = 0, 0, [], []
    checked, answered, outcomes = Judgement(), 0, []
    for number in range(setting.rounds):
        with setting.served(questions) as (server, client):
            setting.warm(client, len(questions))
            order = setting.order(len(questions), 10 + number)
            running = client.start(
                [Stream(order, _CONNECTIONS, seconds=4.0, pause=0.25, seed=number)], patience=_END_SECONDS
            )
            # At another moment of a batch each time.
            time.sleep(1.0 + 0.137 * number)
            told = time.perf_counter()
            server.signal(signal.SIGTERM)
            status = server.wait(_END_SECONDS)
            seconds.append(time.perf_counter() - told)
            outcome = running.wait()
        statuses.append(status)
        checked = checked.beside(setting.judged(outcome, questions))
        answered += int(outcome.ok.sum())
        gone = np.isin(outcome.status, (UNANSWERED, NEVER))
        lost += int(gone.sum())
        crossed += int(np.sum(gone & (outcome.begun > told) & (outcome.ended - outcome.begun < _CROSSED)))
        outcomes.append(outcome.counts())
    note = f"{crossed} of them sent less than {1000 * _CROSSED:.0f} ms before their connection ended, after the signal"
    clean = sum(status == 0 for status in statuses)
    figures = [
        Figure("requests without an answer", float(lost), "", 0.0, True, note if lost else f"{answered:,} answered"),
        Figure(
            "ended with status 0", float(clean), "", float(setting.rounds), False, f"of {setting.rounds}: {statuses}"
        ),
        Figure("from the signal to the end", median(seconds), "s", note="median"),
        Figure(
            "other statuses than 200 and 503", float(_others(outcomes)), "", 0.0, True, "; ".join(map(str, outcomes))
        ),
        *check_figures(checked),
    ]
    return Result(
        "sigterm", figures, {"tries": setting.rounds, "connections": _CONNECTIONS}, {"seconds to end": seconds}
    )


def reload(setting: Setting) -> Result:
    """The bundle is replaced again and again under load; every answer is one bundle's or the other's."""
    if setting.second is None:
        return Result("reload", status=SKIPPED, reason="it needs another bundle of the same system: --second BUNDLE")
    other = runtime.load(setting.second, setting.provider, setting.precision, setting.threads)
    questions = text_questions([setting.engine, other], setting.corpus)
    folder = setting.work / "reloaded"
    bundles = [setting.bundle.resolve(), setting.second.resolve()]
    _point(folder, bundles[0])
    checked, outcomes, seconds, stale = Judgement(), [], [], 0
    with setting.served(questions, bundle=folder) as (server, client):
        setting.warm(client, len(questions))
        leg = Stream(setting.order(len(questions), 20), _CONNECTIONS, seconds=_LEG_SECONDS)
        for number in range(1, setting.rounds + 1):
            _point(folder, bundles[number % 2])
            told = 0.0
            for _ in range(_LEGS):
                running = client.start([leg])
                if not told:
                    time.sleep(_LEG_SECONDS / 4)
                    told = time.perf_counter()
                    server.signal(signal.SIGHUP)
                outcome = running.wait()
                found = setting.judged(outcome, questions)
                checked = checked.beside(found)
                outcomes.append(outcome.counts())
                new = outcome.ended[found.which == number % 2]
                if len(new):
                    seconds.append(float(new.min()) - told)
                    old = (found.which == (number + 1) % 2) & (outcome.begun > new.min())
                    stale += int(old.sum())
                    break
    refused = sum(number for each in outcomes for status, number in each.items() if status != "200")
    total = sum(number for each in outcomes for number in each.values())
    either = np.bincount(checked.which[checked.which >= 0], minlength=2)
    done = f"the first new answer {median(seconds):.1f} s after the signal" if seconds else "no new answer came"
    figures = [
        Figure("reloads that were seen", float(len(seconds)), "", float(setting.rounds), False, done),
        Figure("not answered with 200", float(refused), "", 0.0, True, f"of {total:,}"),
        Figure(
            "old answers to later requests", float(stale), "", 0.0, True, "sent after the first new answer was there"
        ),
        Figure("answers of either bundle", float(either.min()), "", 1.0, False, " and ".join(map(str, either))),
        *check_figures(checked),
    ]
    settings = {"connections": _CONNECTIONS, "reloads": setting.rounds}
    return Result("reload", figures, settings, {"seconds to the first new answer": seconds})


def disconnects(setting: Setting) -> Result:
    """Three clients of ten leave before their answer; the others get theirs."""
    questions = setting.questions
    with setting.served(questions) as (server, client):
        setting.warm(client, len(questions))
        capacity, _ = setting.capacity(client, questions)
        before = server.memory()
        order = setting.order(len(questions), 30)
        leaving = Stream(order, 1000, seconds=setting.seconds, rate=_SHARE * capacity, seed=setting.seed, leave=_LEAVE)
        outcome = client.run(leaving)
        after, _ = setting.capacity(client, questions)
        grown = (server.memory() - before) / 1e6
    stayed = outcome.of(outcome.status != LEFT)
    checked = setting.judged(outcome, questions)
    figures = [
        Figure("who stayed and got no 200", float(np.sum(~stayed.ok)), "", 0.0, True, str(outcome.counts())),
        Figure("left", float(np.sum(outcome.status == LEFT)), note=f"of {len(outcome.status):,}"),
        Figure("capacity afterwards / before", after / capacity),
        Figure("memory grown by", grown, "MB"),
        *check_figures(checked),
    ]
    return Result("disconnects", figures, {"rate": _SHARE * capacity, "leave": _LEAVE})


def exceptions(setting: Setting) -> Result:
    """The engine raises for a few texts; all others are answered, from the same batches too."""
    tokenizer = setting.engine.text.tokenizer
    mark = tokenizer.encode([_MARK])[0][1:-1]
    marked = [f"{text.rstrip('.')} {_MARK}" for text in setting.corpus[:8]]
    marked = [text for text in marked if not tokenizer.try_encode([text])[1]]
    questions = [*setting.questions, *text_questions([setting.engine], marked)]
    good = len(setting.questions)
    environment = {MARK: ",".join(map(str, mark))}
    with setting.served(questions, program=_PROGRAM, environment=environment) as (server, client):
        setting.warm(client, good)
        rng = np.random.default_rng([setting.seed, 40])
        order = [
            int(good + rng.integers(len(marked))) if rng.random() < _MARKED else int(rng.integers(good))
            for _ in range(4096)
        ]
        outcome = client.run(Stream(order, _CONNECTIONS, seconds=setting.seconds))
        ready = server.get("/ready")[0]
    bad = outcome.request >= good
    checked = setting.judged(outcome, questions)
    others = outcome.of(~bad)
    figures = [
        Figure("other requests without 200", float(np.sum(~others.ok)), "", 0.0, True, str(others.counts())),
        Figure("requests the engine raises for", float(bad.sum()), note=str(outcome.of(bad).counts())),
        Figure("of these not answered with 500", float(np.sum(outcome.status[bad] != 500)), "", 0.0, True),
        Figure("ready afterwards", float(ready == 200), "", 1.0),
        *check_figures(checked),
    ]
    return Result("exceptions", figures, {"connections": _CONNECTIONS, "marked": _MARKED})


def _others(counts: list[dict[str, int]]) -> int:
    """Requests with a status that a server that stops has no reason for."""
    known = ("200", "503", "no connection", "unanswered", "never")
    return sum(number for each in counts for status, number in each.items() if status not in known)


def _point(link: Path, target: Path) -> None:
    """Make a symbolic link lead elsewhere, at one stroke."""
    new = link.with_name(link.name + ".new")
    new.unlink(missing_ok=True)
    new.symlink_to(target, target_is_directory=True)
    new.replace(link)
