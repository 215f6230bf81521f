"""Log lines on standard error: what was asked and how it went, never with what.

No line has a text, an image, a header's value, a query or a path as a client wrote it. Errors that were not foreseen
are logged by their types and where they were raised: their messages may quote what was being worked on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.process.console import note_stream
from runtime.serve.caller import Caller
from runtime.serve.request_errors import STATUS

__all__ = ["Outcome", "configure_logs", "flush_logs", "log_event", "log_failure", "log_outcome"]

_LOG = logging.getLogger("runtime.serve")
# Loggers whose messages are the project's own, made of what the operator configured.
_OWN = "runtime"
_UNSEEN = frozenset(
    {"/health", "/ping", "/livez", "/ready", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics"}
)
_SPANS = ("tokenization", "decoding", "queue", "inference")
# For so long lines of requests are gathered: to write one costs a request a tenth of what it costs the server.
_GATHERED_SECONDS = 0.05
_COUNTS = ("items", "tokens", "characters")


@dataclass
class Outcome:
    """A request and how it went.

    Attributes:
        method: of HTTP.
        path: the route's template.
        caller: who asked.
        began: `time.perf_counter()`.
        status: that was answered; 0 while nothing was.
        seconds: that it took.
        error: that was raised.
        body_asked: whether its body was asked for.
    """

    method: str
    path: str
    caller: Caller
    began: float
    status: int = 0
    seconds: float = 0.0
    error: BaseException | None = None
    body_asked: bool = False


def configure_logs(as_json: bool, worker: int | None = None) -> None:
    """Log to standard error from now on.

    Args:
        as_json: one JSON object a line, else plain text.
        worker: number of this process, where there are several.
    """
    handler = _Handler()
    handler.setFormatter(_JsonLines(worker) if as_json else _PlainLines(worker))
    for name, level in ((_OWN, logging.INFO), ("uvicorn", logging.ERROR), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    threading.excepthook = _log_thread


def flush_logs() -> None:
    """Write what was gathered: when an event loop has ended, it writes no more."""
    for handler in logging.getLogger(_OWN).handlers:
        handler.flush()


def log_event(event: str, **fields: Any) -> None:
    """Log something of the server itself; `fields` are numbers and names of its own."""
    _LOG.info(event, extra={"fields": fields})


def log_failure(event: str, error: BaseException, request_id: str | None = None) -> None:
    """Log an error that was not foreseen: its type and where it was raised."""
    fields = {} if request_id is None else {"request_id": request_id}
    _LOG.error(event, extra={"fields": fields | _where(error)})


def log_outcome(outcome: Outcome) -> None:
    """Log a request; probes that went well are not."""
    quiet = outcome.path in _UNSEEN and outcome.status < 400
    if quiet or not _LOG.isEnabledFor(logging.INFO):
        return
    timings = outcome.caller.timings
    fields: dict[str, Any] = {
        "request_id": outcome.caller.request_id,
        "method": outcome.method,
        "path": outcome.path,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 6),
    }
    fields |= {f"{name}_seconds": round(value, 6) for name in _SPANS if (value := getattr(timings, name))}
    fields |= {name: value for name in _COUNTS if (value := getattr(timings, name))}
    if outcome.error is not None:
        kind = getattr(outcome.error, "kind", None)
        fields["error"] = kind if kind in STATUS else type(outcome.error).__name__
    # Without looking for who calls, which takes as long as the rest.
    _LOG.handle(_LOG.makeRecord(_LOG.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields}))


def _where(error: BaseException) -> dict[str, Any]:
    """Types of an error and of what caused it, and the lines it came through."""
    types, each = [], error
    while True:
        types.append(type(each).__name__)
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if cause is None or len(types) == 5:
            break
        each = cause
    frames = traceback.extract_tb(each.__traceback__)[-8:]
    lines = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": " from ".join(types), "raised": lines}


def _log_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and given.exc_type is not SystemExit:
        log_failure("a thread ended", given.exc_value)


class _Handler(logging.Handler):
    """Writes lines; on an event loop those that tell of nothing special a little later, together."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record) + "\n")
        if record.levelno == logging.INFO:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                if len(self._lines) == 1:
                    loop.call_later(_GATHERED_SECONDS, self.flush)
                return
        self.flush()

    def flush(self) -> None:
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                stream = note_stream()
                stream.write("".join(lines))
                stream.flush()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What is said beside the event."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    error = record.exc_info[1] if record.exc_info else None
    return {**fields, **(_where(error) if error is not None else {})}


def _event(record: logging.LogRecord) -> str:
    # Messages of others may quote anything: asyncio's the arguments of what failed.
    return record.getMessage() if record.name.partition(".")[0] == _OWN else record.name


class _JsonLines(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"
        about = {"time": when, "level": record.levelname.lower(), "event": _event(record), **self._worker}
        return json.dumps(about | _fields(record), ensure_ascii=True, default=str)


class _PlainLines(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f" [{worker}]"

    def format(self, record: logging.LogRecord) -> str:
        """Time, level unless it is INFO, event, and fields as name=value."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f" {record.levelname.lower()}"
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        return f"{when}{self._worker}{level} {_event(record)}{fields}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)
