"""Metrics as Prometheus reads them, of one process or of several together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["CONTENT_TYPE", "Family", "cumulative", "families", "merged", "rendered"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# text-embeddings-inference's counters do not end in _total, which the client library puts there.
_AS_NAMED = "te_"
# Of several processes, by the metric's name; others are added up.
_MERGE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "process_start_time_seconds": min,
    "cxr_engine_info": max,
    "cxr_ready": min,
}

# Name, type, help, and samples: name, labels, value. Plain lists, which travel between processes as JSON.
Family = list[Any]


def families(registry: Any) -> list[Family]:
    """What a registry holds now, times of creation left out."""
    found = []
    for metric in registry.collect():
        suffix = "_total" if metric.type == "counter" and not metric.name.startswith(_AS_NAMED) else ""
        samples = [
            [_named(metric, each.name), dict(each.labels), each.value]
            for each in metric.samples
            if not each.name.endswith("_created")
        ]
        found.append([metric.name + suffix, metric.type, metric.documentation, samples])
    return found


def merged(parts: Iterable[Sequence[Family]]) -> list[Family]:
    """One set of families of several processes'."""
    about: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for part in parts:
        for name, kind, text, samples in part:
            about.setdefault(name, [name, kind, text])
            found = values.setdefault(name, {})
            for sample, labels, value in samples:
                found.setdefault((sample, tuple(labels.items())), []).append(value)
    return [
        [
            *each,
            [[sample, dict(labels), _MERGE.get(name, sum)(found)] for (sample, labels), found in values[name].items()],
        ]
        for name, each in about.items()
    ]


def cumulative(part: Iterable[Family]) -> list[Family]:
    """Those families that only ever grow: what a process that ended leaves behind."""
    return [each for each in part if each[1] in ("counter", "histogram", "summary")]


def rendered(part: Iterable[Family]) -> str:
    """The text format, version 0.0.4."""
    lines = []
    for name, kind, text, samples in part:
        lines.append(f"# HELP {name} {_escaped(text)}")
        lines.append(f"# TYPE {name} {kind}")
        for sample, labels, value in samples:
            inside = ",".join(f'{key}="{_quoted(each)}"' for key, each in labels.items())
            lines.append(f"{sample}{{{inside}}} {value!r}" if inside else f"{sample} {value!r}")
    return "\n".join(lines) + "\n"


def _named(metric: Any, sample: str) -> str:
    if metric.type == "counter" and metric.name.startswith(_AS_NAMED):
        return sample.removesuffix("_total")
    return sample


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
