"""Work for several threads, in order and in bounded memory."""

from __future__ import annotations

import contextlib
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from runtime.process.forks import check_generation, generation

__all__ = ["ordered_map"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items that wait beyond those being worked on: enough that no worker idles while the reader is busy.
_WAITING = 2
_WHAT = "This iteration"


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, *, pinned: bool = False
) -> Iterator[_Result]:
    """`map` on several threads: results in the order of the items, at most `workers` + 2 of them under way.

    Items are taken as results are consumed, so endless iterables do. numpy, Pillow and the engines compute outside
    Python's lock, so threads share the processor's cores without copies between processes.

    Args:
        function: called on worker threads, or on this one if `workers` is 0.
        items: taken one by one on this thread.
        workers: threads.
        pinned: each worker keeps to a processor of its own, where this thread may use exactly as many. On a busy
            machine Linux otherwise has two of them take turns on one for a while: int8 texts on 2 streams of ONNX
            Runtime took 0.69 to 0.89 of the time with it.

    Yields:
        `function(item)`; what it raises is raised here, at that item's turn. Work not yet begun is then dropped, as it
        is when the caller stops early or is interrupted. Going on in a forked child raises ProviderError.
    """
    if workers == 0:
        yield from map(function, items)
        return
    begun = generation()
    under_way: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(workers, "cxr-engine", _pinning(workers) if pinned else None)
    try:
        for item in items:
            check_generation(begun, _WHAT)
            under_way.append(pool.submit(function, item))
            if len(under_way) == workers + _WAITING:
                yield under_way.popleft().result()
        while under_way:
            check_generation(begun, _WHAT)
            yield under_way.popleft().result()
    finally:
        if begun == generation():  # in a forked child there are no such threads, and their locks may be held
            pool.shutdown(wait=True, cancel_futures=True)


def _pinning(workers: int) -> Callable[[], None] | None:
    """What each worker calls first to have a processor of its own; None where there is not one for each."""
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return None
    allowed = os.sched_getaffinity(0)
    if len(allowed) != workers:
        return None
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for processor in sorted(allowed):
        free.put(processor)

    def pin() -> None:
        with contextlib.suppress(OSError, queue.Empty):  # a processor that was taken away meanwhile
            os.sched_setaffinity(0, {free.get_nowait()})

    return pin
