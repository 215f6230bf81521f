"""A process in which LoadGen drives one engine: `python -m bench.loadgen.worker SPEC.json`.

Each finished run is a line of JSON at the end of a file; a second file's time of change is its sign of life.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import PeerError
from bench.loadgen.bout import Bout
from bench.loadgen.scenarios import Asked
from bench.loadgen.spec import Spec
from bench.loadgen.systems import SYSTEMS
from bench.record import LoadGenRun
from runtime.errors import CxrEngineError
from runtime.process import print_note

__all__ = ["bout", "main", "runs"]


def main(spec: Spec) -> None:
    """Run everything that is asked for."""
    alive = Path(spec.alive)
    with Path(spec.results).open("a", encoding="utf-8") as results:
        for found in runs(spec, alive.touch):
            results.write(json.dumps(asdict(found), allow_nan=False) + "\n")
            results.flush()
            alive.touch()


def runs(spec: Spec, alive: Callable[[], None] = lambda: None) -> Iterator[LoadGenRun]:
    """The runs that a worker is told of, as they end."""
    prepared = bout(spec, alive)
    for scenario, mode in spec.runs:
        yield prepared.run(scenario, mode, spec.target_qps)


def bout(spec: Spec, alive: Callable[[], None] = lambda: None) -> Bout:
    """Load the engine and make its library.

    Raises:
        CxrEngineError: the engine cannot be loaded.
    """
    import runtime

    system = SYSTEMS[spec.system]
    # LoadGen's rules do not let answers be kept.
    engine = runtime.load(spec.bundle, spec.provider, spec.precision, spec.threads, parts=[spec.system], text_cache=0)
    alive()
    library = system.library(engine, system.samples, spec.seed)
    precision = engine.precision[spec.system]
    name = spec.contestant
    if "auto" in (spec.provider, spec.precision):
        name = f"engine-{engine.provider}-{precision}"
    embeddings: dict[int, NDArray[np.float32]] = {}

    def expected(indices: Sequence[int]) -> NDArray[np.float32]:
        """By an engine of its own, opened when it is needed, and each sample once."""
        if missing := sorted(set(indices) - embeddings.keys()):
            exact = runtime.load(spec.bundle, "cpu", "fp32", spec.threads, parts=[spec.system], text_cache=0)
            rows = system.encode(exact)([library[index] for index in missing])
            embeddings.update(zip(missing, rows, strict=True))
            alive()
        return np.stack([embeddings[index] for index in indices])

    return Bout(
        name=spec.system,
        system=system,
        contestant=name,
        precision=precision,
        encode=system.encode(engine),
        library=library,
        expected=expected,
        random_weights=engine.manifest.source.kind == "random",
        asked=Asked(
            spec.official,
            spec.seconds,
            system.bound_seconds if spec.bound_seconds is None else spec.bound_seconds,
            spec.seed,
            len(library),
            len(library) if spec.official else min(system.judged, len(library)),
        ),
        logs=Path(spec.logs),
        alive=alive,
    )


def _start(file: str) -> int:
    try:
        main(Spec.from_json(Path(file).read_text(encoding="utf-8")))
    except (PeerError, CxrEngineError) as error:
        print_note(f"{type(error).__name__}: {error}")
        return 1
    except BaseException:
        print_note(traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    os.dup2(2, 1)  # what libraries print, from C too, goes where nobody reads results
    status = _start(sys.argv[1])
    # A thread of LoadGen that still waits for a failed engine must not keep the process.
    os._exit(status)
