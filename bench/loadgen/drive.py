"""Let LoadGen run once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import PeerError
from bench.loadgen.systems import Encode
from bench.loadgen.under_test import SystemUnderTest

__all__ = ["drive"]

# After a failure all queries are answered at once; Server still waits for the times that it has drawn.
_GRACE_SECONDS = 10.0


def drive(
    settings: Any,
    encode: Encode,
    library: Sequence[Any],
    most: int,
    folder: Path,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Run LoadGen; its logs say what came of it.

    Args:
        settings: LoadGen's TestSettings.
        encode: samples → float32 (N, D).
        library: all samples.
        most: samples that `encode` is given in one call.
        folder: where LoadGen's logs go.
        alive: called after each call of `encode`.

    Raises:
        PeerError: `encode` raised, whatever it was; LoadGen has then ended, or is left to itself after ten seconds.
    """
    import mlperf_loadgen

    folder.mkdir(parents=True, exist_ok=True)
    logs = mlperf_loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    system = SystemUnderTest(encode, library, most, alive)
    under_test = mlperf_loadgen.ConstructSUT(system.issue, system.flush)
    samples = mlperf_loadgen.ConstructQSL(len(library), len(library), system.load, system.unload)
    ended = threading.Event()

    def start() -> None:
        try:
            # Without a name for audit.config LoadGen would take settings from a file that happens to lie here.
            mlperf_loadgen.StartTestWithLogSettings(under_test, samples, settings, logs, "")
        except BaseException as error:
            system.error = system.error or error
            system.failed.set()
        finally:
            ended.set()

    threading.Thread(target=start, name="loadgen", daemon=True).start()
    while not ended.wait(0.05):
        if system.failed.is_set():
            ended.wait(_GRACE_SECONDS)
            break
    system.close()
    if ended.is_set():
        mlperf_loadgen.DestroyQSL(samples)
        mlperf_loadgen.DestroySUT(under_test)
    if system.error is not None:
        raise PeerError(f"{type(system.error).__name__}: {system.error}") from system.error
