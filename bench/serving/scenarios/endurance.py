"""Many requests of all kinds; radiographs of full size; the floor of the HTTP layer."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.serving.checks import Judgement, Question
from bench.serving.load.client import Client
from bench.serving.load.plan import Request, Stream
from bench.serving.pictures import write_dicoms, write_pngs
from bench.serving.questions import film_questions, mixed_questions
from bench.serving.result import Figure, Result, median
from bench.serving.server_process import HOST
from bench.serving.setting import Setting, check_figures
from bench.workloads.inputs import write_jpegs

__all__ = ["films", "floor", "soak"]

_CONNECTIONS = 16
# Requests between two looks at the memory.
_LEG = 500
# After so many everything that is allocated once is there.
_SETTLED = 2000
_PICTURES = 12
_FILMS = 12
_FILM_CONNECTIONS = 8
_FLOOR_CONNECTIONS = 64


def soak(setting: Setting) -> Result:
    """Requests of all kinds that the bundle can answer, each compared, and the memory on the way."""
    engine = setting.engine
    images = write_pngs(_made(setting, "pictures"), _PICTURES, setting.seed) if engine.manifest.image else []
    texts = setting.corpus if engine.manifest.text else []
    by_kind = mixed_questions(engine, texts, images)
    questions = [question for each in by_kind.values() for question in each]
    order = setting.mixture(by_kind, setting.requests, 50)
    checked, memory = Judgement(), []
    statuses: dict[str, int] = {}
    with setting.served(questions) as (server, client):
        for start in range(0, len(order), _LEG):
            leg = order[start : start + _LEG]
            outcome = client.run(Stream(leg, _CONNECTIONS, count=len(leg)))
            checked = checked.beside(setting.judged(outcome, questions))
            for status, number in outcome.counts().items():
                statuses[status] = statuses.get(status, 0) + number
            memory.append(server.memory())
    # A short run is settled, for want of better, after its first half.
    settled = memory[min(_SETTLED // _LEG, math.ceil(len(memory) / 2)) - 1]
    tenth = memory[-max(1, len(memory) // 10) :]
    kinds = {kind: sum(questions[number].kind == kind for number in order) for kind in by_kind}
    figures = [
        Figure("not answered with 200", float(len(order) - statuses.get("200", 0)), "", 0.0, True, str(statuses)),
        Figure("memory at the end / settled", median(tenth) / settled, "", 1.05, True, _told(memory, settled)),
        Figure("requests", float(len(order)), note=", ".join(f"{kind} {number:,}" for kind, number in kinds.items())),
        *check_figures(checked),
    ]
    return Result("soak", figures, {"connections": _CONNECTIONS}, {"memory in bytes": memory})


def films(setting: Setting) -> Result:
    """JPEG and DICOM files of 2,500 × 2,048 pixels as bodies, beside `engine.image.encode` of the files, in turns."""
    folder = _made(setting, "films")
    jpegs = write_jpegs(folder, _FILMS, setting.seed)
    figures, samples = [], {}
    checked = Judgement()
    sets: dict[str, tuple[Sequence[Path], str]] = {"JPEG": ([Path(each) for each in jpegs], "image/jpeg")}
    try:
        sets["DICOM"] = (write_dicoms(folder, jpegs), "application/dicom")
    except ModuleNotFoundError as error:
        figures.append(Figure("DICOM", math.nan, note=f"not measured: {error.name} is not installed"))
    for name, (files, content_type) in sets.items():
        questions = film_questions(setting.engine, files, content_type)
        served, own = [], []
        with setting.served(questions) as (_, client):
            setting.warm(client, len(questions))
            passes = 1
            for number in range(setting.rounds):
                paths = [str(file) for file in files] * passes
                for side in ("served", "own") if number % 2 == 0 else ("own", "served"):
                    if side == "own":
                        started = time.perf_counter()
                        setting.engine.image.encode(paths)
                        own.append((time.perf_counter() - started) / len(paths))
                    else:
                        order = list(range(len(files)))
                        outcome = client.run(Stream(order, _FILM_CONNECTIONS, count=len(paths)))
                        served.append(outcome.seconds / len(paths))
                        checked = checked.beside(setting.judged(outcome, questions))
                # The first round says how many passes a round has time for.
                passes = max(1, round(setting.seconds / setting.rounds / 4 / (own[0] * len(files))))
        ratios = [mine / its for mine, its in zip(own, served, strict=True)]
        figures += [
            Figure(f"{name}: share of engine.image.encode", median(ratios), "", 0.95, False, _rounds(ratios)),
            Figure(f"{name}: served", 1 / median(served), "images/s", note=f"{_FILM_CONNECTIONS} connections"),
            Figure(f"{name}: in process", 1 / median(own), "images/s"),
        ]
        samples[name] = {"served": served, "in process": own}
    return Result("films", [*figures, *check_figures(checked)], {"files": _FILMS}, samples)


def floor(setting: Setting) -> Result:
    """What the HTTP layer alone can do: `/health`, asked by wrk where it is installed, and by this client."""
    wrk = shutil.which("wrk")
    seconds = max(1, round(min(setting.seconds, 10)))
    question = Question("health", Request("/health", method="GET"), ())
    figures = []
    with setting.served([question]) as (server, client):
        figures.append(_own_floor(client, seconds))
        if wrk is None:
            figures.append(Figure("wrk", math.nan, note="not measured: wrk is not installed"))
        else:
            address = f"http://{HOST}:{server.port}/health"
            command = [wrk, "-t1", f"-c{_FLOOR_CONNECTIONS}", f"-d{seconds}s", "--latency", address]
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30).stdout
            rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
            p99 = re.search(r"99%\s+([\d.]+\w+)", said)
            note = f"1 thread, {_FLOOR_CONNECTIONS} connections; p99 {p99[1] if p99 else 'not told'}"
            figures.append(Figure("wrk", float(rate[1]) if rate else math.nan, "requests/s", note=note))
    return Result("floor", figures, {"seconds": seconds})


def _own_floor(client: Client, seconds: float) -> Figure:
    outcome = client.run(Stream([0], _FLOOR_CONNECTIONS, seconds=seconds), bodies=False)
    cpu = 1e6 * outcome.cpu_seconds / max(1, len(outcome.status))
    note = f"p99 {1000 * outcome.quantile(0.99):.2f} ms; the client computes {cpu:.0f} µs a request"
    return Figure("this client", float(np.sum(outcome.ok)) / outcome.seconds, "requests/s", note=note)


def _made(setting: Setting, name: str) -> Path:
    folder = setting.work / name
    folder.mkdir(exist_ok=True)
    return folder


def _told(memory: Sequence[int], settled: int) -> str:
    return f"{settled / 1e6:.0f} MB then, {memory[-1] / 1e6:.0f} MB at the end, {max(memory) / 1e6:.0f} MB at most"


def _rounds(ratios: Sequence[float]) -> str:
    return f"median of {len(ratios)} rounds, {min(ratios):.3f} to {max(ratios):.3f}"
