"""Read a report again, and refuse what is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import PeerError
from bench.record.faults import faults
from bench.record.report import (
    FAILED,
    MEASURED,
    SCHEMA_VERSION,
    SKIPPED,
    WRONG,
    Case,
    Contestant,
    Fidelity,
    Goal,
    LoadGenRun,
    Manner,
    Rate,
    Report,
    Row,
)

__all__ = ["read_report"]

# What reports of before do not have.
_ADDED = frozenset({"goals", "not_begun"})


def read_report(file: Path) -> Report:
    """Read what `write_json` wrote.

    Raises:
        OSError: the file cannot be read.
        PeerError: it is no report, a damaged one, or one of another version.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
        found = content["schema_version"]
        if found != SCHEMA_VERSION:
            raise PeerError(f"{file} has schema version {found}; this version of bench reads {SCHEMA_VERSION}")
        report = _report(content)
        wrong = faults(report, (MEASURED, WRONG, SKIPPED, FAILED))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PeerError(f"{file} is no report of python -m bench: {type(error).__name__}: {error}") from None
    if wrong:
        raise PeerError(f"{file} is a damaged report: {'; '.join(wrong[:5])}")
    return report


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _report(content: Mapping[str, Any]) -> Report:
    known = {name: content[name] for name in Report.__dataclass_fields__ if name in content or name not in _ADDED}
    return Report(
        **{
            **known,
            "contestants": [_contestant(each) for each in content["contestants"]],
            "cases": [_case(each) for each in content["cases"]],
            "loadgen": [LoadGenRun(**{**each, "fidelity": _fidelity(each)}) for each in content["loadgen"]],
            "manners": [Manner(**each) for each in content["manners"]],
            "goals": [Goal(**each) for each in content.get("goals", ())],
        }
    )


def _contestant(content: Mapping[str, Any]) -> Contestant:
    """Reports of before `our_graph` told it in the remark alone: "the bundle's graph", "opens the bundle's …"."""
    ours = content["kind"] == "peer" and "bundle's" in content["note"]
    return Contestant(**{"our_graph": ours, **content})


def _case(content: Mapping[str, Any]) -> Case:
    rows = [Row(**{**each, "fidelity": _fidelity(each)}) for each in content["rows"]]
    rates = {name: Rate(**each) for name, each in content["rates"].items()}
    return Case(**{**content, "rows": rows, "rates": rates})


def _fidelity(content: Mapping[str, Any]) -> Fidelity | None:
    return Fidelity(**content["fidelity"]) if content["fidelity"] else None
