"""What the server counts; an `Observer` of the scheduler.

Metrics of text-embeddings-inference keep their names, labels and buckets where they mean the same
(router/src/prometheus.rs, core/src/infer.rs): dashboards made for it show this server. Others begin with cxr_.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from runtime.serve.operation.admission import Load
from runtime.serve.operation.exposition import Family, families
from runtime.serve.operation.logs import Outcome
from runtime.serve.scheduling.observer import KINDS

__all__ = ["Metrics"]

# text-embeddings-inference's.
_DURATIONS = tuple(accumulate(range(35), lambda value, _: value * 1.5, initial=1e-5))[1:]
_LENGTHS = tuple(2.0**power for power in range(20))
_SIZES = tuple(2.0**power for power in range(13))
_TOKENS = tuple(2.0**power for power in range(21))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Statuses that text-embeddings-inference has no request for: nothing was asked of the model.
_NOT_ASKED = frozenset({401, 403, 404, 405, 415})
# Its `err` by status; other refusals are "validation".
_ERRORS: Mapping[int, str] = MappingProxyType(
    {429: "overloaded", 499: "dropped", 500: "inference", 503: "unhealthy", 504: "timeout"}
)
_SPANS = ("tokenization", "queue", "inference")
_TEXT = ("text", "mask")


class Metrics:
    """Counts of one process; its methods may be called from any thread."""

    def __init__(self, load: Load | None = None, *, process: bool = True) -> None:
        """Begin.

        Args:
            load: what is under way.
            process: also tell what the process takes: memory, processor time, open files.
        """
        self.registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
        self._queues = dict.fromkeys(KINDS, 0)
        self._children: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._requests_of_clients()
        self._work()
        load = load or Load()
        self._gauge("cxr_requests", "Requests that are being answered.").set_function(lambda: load.requests)
        self._gauge("cxr_body_bytes", "Bytes held of their bodies.").set_function(lambda: load.body_bytes)
        self._connections = self._gauge("cxr_connections", "Open connections.")
        self._ready = self._gauge("cxr_ready", "Whether requests can be answered now.")
        self._info: Any = None

    def request(self, outcome: Outcome) -> None:
        """A request was answered, or its client left."""
        path, status = outcome.path, outcome.status
        kind = outcome.method if outcome.method in ("GET", "POST") else "other"
        self._child(self._answered, path, kind, status).inc()
        self._child(self._seconds, path).observe(outcome.seconds)
        if outcome.method != "POST" or path.startswith("/admin") or status in _NOT_ASKED:
            return
        timings = outcome.caller.timings
        method = "batch" if timings.items > 1 else "single"
        self._child(self._te_count, method).inc()
        if status >= 400:
            self._te_failure.labels(_ERRORS.get(status, "validation")).inc()
            return
        self._child(self._te_success, method).inc()
        self._te_durations[""].observe(outcome.seconds)
        for span in _SPANS:
            self._te_durations[span].observe(getattr(timings, span))
        if timings.tokens:
            self._te_length.observe(timings.tokens / max(1, timings.items))
        if timings.decoding:
            self._decoding.observe(timings.decoding)

    def batch(self, kind: str, items: int, tokens: int, seconds: float) -> None:
        """See `Observer`."""
        self._child(self._batch_seconds, kind).observe(seconds)
        self._child(self._batch_items, kind).observe(items)
        self._child(self._tokens, kind).inc(tokens)
        if kind in _TEXT:
            self._te_batch_size.observe(items)
            self._te_batch_tokens.observe(tokens)

    def queue(self, kind: str, items: int) -> None:
        """See `Observer`."""
        with self._lock:
            self._queues[kind] = items
            self._te_queue.set(sum(self._queues.values()))
        self._child(self._queue, kind).set(items)

    def wait(self, kind: str, seconds: float) -> None:
        """See `Observer`."""
        self._child(self._waits, kind).observe(seconds)

    def rejected(self, reason: str) -> None:
        """See `Observer`."""
        self._rejected.labels(reason).inc()

    def failed(self, kind: str) -> None:
        """See `Observer`."""
        self._failed.labels(kind).inc()

    def reloaded(self, model: str, done: bool) -> None:
        """A bundle was opened anew, or could not be."""
        self._reloads.labels(model, "done" if done else "failed").inc()

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Ask this for the number of open connections from now on."""
        self._connections.set_function(count)

    def connection_closed(self, reason: str) -> None:
        """A connection was closed because it broke a bound: "too_many", "headers", "slow"."""
        self._closed.labels(reason).inc()

    def watch_decoding(self, waiting: Callable[[], int], crashes: Callable[[], int]) -> None:
        """Ask these from now on how many images wait to be decoded, and how many child processes crashed at it."""
        self._gauge("cxr_decode_waiting", "Images that wait to be decoded.").set_function(waiting)
        about = "Child processes that crashed or were killed at an image, since its bundle was opened."
        self._gauge("cxr_decode_crashes", about).set_function(crashes)

    def watch_text_cache(self, hits: Callable[[], int]) -> None:
        """Ask this from now on how many texts' embeddings were taken from the cache."""
        about = "Texts whose embedding was kept from an earlier request, since their bundle was opened."
        self._gauge("cxr_text_cache_hits", about).set_function(hits)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Ask this from now on whether requests can be answered."""
        self._ready.set_function(lambda: float(ready()))

    def engines(self, rows: Sequence[Mapping[str, str]]) -> None:
        """What the loaded bundles run on: labels and values, the same labels in each row."""
        if self._info is not None:
            self.registry.unregister(self._info)
        self._info = None
        if rows:
            self._info = Gauge("cxr_engine_info", "The loaded bundles; 1.", list(rows[0]), registry=self.registry)
        for row in rows:
            self._info.labels(**row).set(1)

    def _child(self, metric: Any, *labels: Any) -> Any:
        """Of a metric, with these values of its labels; remembered, since looking it up takes a lock."""
        key = metric, labels
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    def families(self) -> list[Family]:
        """All of it now."""
        return families(self.registry)

    def _requests_of_clients(self) -> None:
        counter, histogram = self._counter, self._histogram
        self._te_count = counter("te_request_count", "Requests to a model.", ["method"])
        self._te_success = counter("te_request_success", "Requests to a model that were answered.", ["method"])
        self._te_failure = counter("te_request_failure", "Requests to a model that were not answered.", ["err"])
        self._te_durations = {
            "": histogram("te_request_duration", "Seconds until a request was answered.", _DURATIONS),
            "tokenization": histogram("te_request_tokenization_duration", "Seconds of tokenization.", _DURATIONS),
            "queue": histogram("te_request_queue_duration", "Seconds that a request waited.", _DURATIONS),
            "inference": histogram("te_request_inference_duration", "Seconds of its batches.", _DURATIONS),
        }
        self._te_length = histogram("te_request_input_length", "Tokens a text, in the mean of a request.", _LENGTHS)
        self._answered = counter("cxr_requests_answered", "Requests by path and status.", ["path", "method", "status"])
        self._seconds = histogram("cxr_request_seconds", "Seconds until an answer.", _SECONDS, ["path"])
        self._decoding = histogram("cxr_request_decoding_seconds", "Seconds of reading a request's images.", _SECONDS)
        self._closed = counter("cxr_connections_closed", "Connections closed because they broke a bound.", ["reason"])

    def _work(self) -> None:
        counter, histogram = self._counter, self._histogram
        self._te_queue = self._gauge("te_queue_size", "Items that wait for the engine.")
        self._te_batch_size = histogram("te_batch_next_size", "Texts a batch.", _SIZES)
        self._te_batch_tokens = histogram("te_batch_next_tokens", "Tokens a batch of texts.", _TOKENS)
        self._queue = self._gauge("cxr_queue_items", "Items that wait for the engine, by kind.", ["kind"])
        self._waits = histogram("cxr_wait_seconds", "Seconds that an item waited for the engine.", _SECONDS, ["kind"])
        self._batch_seconds = histogram("cxr_batch_seconds", "Seconds a batch took.", _SECONDS, ["kind"])
        self._batch_items = histogram("cxr_batch_items", "Items a batch.", _SIZES, ["kind"])
        self._tokens = counter("cxr_tokens", "Tokens computed, padding left out.", ["kind"])
        self._rejected = counter("cxr_rejected", "Work that was refused or dropped.", ["reason"])
        self._failed = counter("cxr_failed_batches", "Batches for which the engine raised.", ["kind"])
        self._reloads = counter("cxr_reloads", "Bundles opened anew.", ["model", "result"])

    def _counter(self, name: str, about: str, labels: Sequence[str] = ()) -> Any:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, labels: Sequence[str] = ()) -> Any:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Any:
        return Histogram(name, about, labels, buckets=buckets, registry=self.registry)
