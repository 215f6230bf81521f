"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from runtime.serve.operation.exposition import CONTENT_TYPE, cumulative, families, merged, rendered
from runtime.serve.operation.metrics import Metrics
from tests.runtime.serve.operation.fakes import make

# text-embeddings-inference's metrics, router/src/prometheus.rs: name → type and upper bounds of its buckets.
_DURATIONS = [1.5e-5 * 1.5**power for power in range(35)]
_TEI: dict[str, tuple[str, list[float]]] = {
    "te_request_count": ("counter", []),
    "te_request_success": ("counter", []),
    "te_request_failure": ("counter", []),
    "te_request_duration": ("histogram", _DURATIONS),
    "te_request_tokenization_duration": ("histogram", _DURATIONS),
    "te_request_queue_duration": ("histogram", _DURATIONS),
    "te_request_inference_duration": ("histogram", _DURATIONS),
    "te_request_input_length": ("histogram", [2.0**power for power in range(20)]),
    "te_queue_size": ("gauge", []),
    "te_batch_next_size": ("histogram", [2.0**power for power in range(13)]),
    "te_batch_next_tokens": ("histogram", [2.0**power for power in range(21)]),
}


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    # The parser ends every counter's name in _total, as text-embeddings-inference's do not.
    return {
        (_written(each.name), tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def _written(name: str) -> str:
    return name.removesuffix("_total") if name.startswith("te_") else name


def test_names_types_and_buckets_are_those_of_text_embeddings_inference() -> None:
    text = TestClient(make()[0]).get("/metrics").text
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    for name, (kind, bounds) in _TEI.items():
        assert types[name] == kind, name
        found = [float(labels[0][1]) for (sample, labels) in _samples(text) if sample == f"{name}_bucket" and labels]
        assert found == pytest.approx([*bounds, float("inf")] if bounds else []), name
    assert not any(name.startswith("te_") for name in types if name not in _TEI)


def test_requests_are_counted() -> None:
    app, _, _ = make()
    client = TestClient(app)
    for _ in range(3):
        client.post("/length")  # of 2 items, 10 tokens
    client.post("/sleep", content="0")
    for kind in ("Overloaded", "Validation", "Unhealthy", "TooLarge", "Timeout"):
        client.post("/refuse", content=kind)
    client.post("/fail")
    client.post("/nothing/at/all")
    client.get("/models/secret/infer")
    client.get("/health")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    found = _samples(answer.text)

    def value(name: str, **labels: str) -> float | None:
        return found.get((name, tuple(sorted(labels.items()))))

    assert "\nte_request_count{" in answer.text
    assert value("te_request_count", method="batch") == 3
    assert value("te_request_count", method="single") == 7
    assert value("te_request_success", method="batch") == 3
    assert value("te_request_success", method="single") == 1
    errors = {labels[0][1]: count for (name, labels), count in found.items() if name == "te_request_failure"}
    assert errors == {"overloaded": 1, "validation": 2, "unhealthy": 1, "timeout": 1, "inference": 1}
    assert value("te_request_duration_count") == 4
    assert value("te_request_input_length_sum") == 15, "5 tokens a text, three times"
    assert value("cxr_requests_answered_total", path="/length", method="POST", status="200") == 3
    assert value("cxr_requests_answered_total", path="/refuse", method="POST", status="429") == 1
    assert value("cxr_requests_answered_total", path="other", method="POST", status="404") == 1
    assert value("cxr_requests_answered_total", path="/models/{name}/infer", method="GET", status="405") == 1
    assert value("cxr_ready") == 1
    assert value("cxr_requests") == 0
    assert "secret" not in answer.text


def test_the_scheduler_is_observed() -> None:
    metrics = Metrics(process=True)
    metrics.batch("text", 3, 40, 0.2)
    metrics.batch("image", 8, 0, 0.4)
    metrics.queue("text", 5)
    metrics.queue("image", 2)
    metrics.wait("text", 0.03)
    metrics.rejected("gone")
    metrics.failed("mask")
    metrics.watch_connections(lambda: 4)
    metrics.watch_decoding(lambda: 6, lambda: 1)
    metrics.watch_text_cache(lambda: 9)
    metrics.engines([{"model": "a", "provider": "cpu"}])
    metrics.engines([{"model": "a", "provider": 'open"vino\n'}])
    found = _samples(rendered(metrics.families()))
    expected: dict[tuple[Any, ...], float] = {
        ("te_queue_size", ()): 7,
        ("te_batch_next_size_sum", ()): 3,
        ("te_batch_next_tokens_sum", ()): 40,
        ("cxr_batch_items_sum", (("kind", "image"),)): 8,
        ("cxr_batch_seconds_sum", (("kind", "image"),)): 0.4,
        ("cxr_queue_items", (("kind", "text"),)): 5,
        ("cxr_wait_seconds_sum", (("kind", "text"),)): 0.03,
        ("cxr_tokens_total", (("kind", "text"),)): 40,
        ("cxr_rejected_total", (("reason", "gone"),)): 1,
        ("cxr_failed_batches_total", (("kind", "mask"),)): 1,
        ("cxr_connections", ()): 4,
        ("cxr_decode_waiting", ()): 6,
        ("cxr_decode_crashes", ()): 1,
        ("cxr_text_cache_hits", ()): 9,
        ("cxr_engine_info", (("model", "a"), ("provider", 'open"vino\n'))): 1,
    }
    assert expected.items() <= found.items()
    assert ("cxr_engine_info", (("model", "a"), ("provider", "cpu"))) not in found
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_several_processes_are_added_up() -> None:
    parts = []
    for tokens in (10, 32):
        metrics = Metrics(process=False)
        metrics.batch("text", 1, tokens, 0.5)
        metrics.queue("text", tokens)
        metrics.engines([{"model": "a"}])
        metrics.watch_ready(lambda tokens=tokens: tokens == 10)
        parts.append(metrics.families())
    other = Metrics(process=False)
    other.batch("image", 4, 0, 0.1)
    parts.append(other.families())
    found = _samples(rendered(merged(parts)))
    assert found["cxr_tokens_total", (("kind", "text"),)] == 42
    assert found["cxr_batch_seconds_bucket", (("kind", "text"), ("le", "0.5"))] == 2
    assert found["cxr_batch_items_sum", (("kind", "image"),)] == 4
    assert found["te_queue_size", ()] == 42
    assert found["cxr_engine_info", (("model", "a"),)] == 1
    assert found["cxr_ready", ()] == 0
    names = {each[0] for each in cumulative(merged(parts))}
    assert "cxr_tokens_total" in names
    assert not names & {"te_queue_size", "cxr_ready", "cxr_engine_info"}


def test_what_prometheus_own_client_writes_is_the_same_but_for_names() -> None:
    from prometheus_client import generate_latest

    metrics = Metrics(process=False)
    metrics.batch("text", 3, 40, 0.2)
    own = _samples(rendered(families(metrics.registry)))
    theirs = _samples(generate_latest(metrics.registry).decode())
    assert ("te_batch_next_size_sum", ()) in own
    assert own == {key: value for key, value in theirs.items() if not key[0].endswith("_created")}
