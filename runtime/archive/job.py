"""What a run into a folder was begun with, so that it is only continued with the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runtime.errors import InputError
from runtime.files import read_json
from runtime.files.whole_file import whole_file

__all__ = ["read_job", "write_job"]

_FORMAT = 1
_SHOWN = 12


def write_job(path: Path, settings: Mapping[str, Any], finished: Mapping[str, int] | None) -> None:
    """Write the job's file; `finished` has the counts once all is done."""
    job = {"format": _FORMAT, "settings": settings, "finished": finished}
    with whole_file(path) as partial:
        partial.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")


def read_job(path: Path, settings: Mapping[str, Any]) -> bool:
    """Compare what a run was begun with and what it is to be continued with.

    Returns:
        Whether it came to its end.

    Raises:
        InputError: the file cannot be used, or the settings differ; what differs is listed.
    """
    try:
        job = read_json(path)
        if job["format"] != _FORMAT:
            raise ValueError(f"format {job['format']} where {_FORMAT} is expected")
        then, finished = dict(job["settings"]), job["finished"] is not None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be used ({error}). Write to another folder.") from None
    if then != settings:
        lines = [f"  {line}" for line in _differences(then, settings)]
        listed = "\n".join([*lines[:_SHOWN], *(["  …"] if len(lines) > _SHOWN else [])])
        raise InputError(
            f"{path.parent} cannot be resumed: this is not what it was begun with.\n{listed}\n"
            "Give what it was begun with, or write to another folder."
        )
    return finished


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for key in dict.fromkeys((*then, *now)):
        before, after = then.get(key), now.get(key)
        if key == "inputs" and isinstance(before, list) and all(isinstance(entry, dict) for entry in before):
            yield from _input_differences(before, now[key])
        elif before != after:
            yield f"{key}: {before} then, {after} now"


def _input_differences(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterable[str]:
    before, after = [entry.get("name") for entry in then], [entry["name"] for entry in now]
    if before != after:
        yield f"inputs: {', '.join(map(str, before))} then, {', '.join(after)} now"
        return
    for old, new in zip(then, now, strict=True):
        changed = [f"{key} {old.get(key)} then, {new[key]} now" for key in new if old.get(key) != new[key]]
        if changed:
            yield f"{new['name']} changed: {'; '.join(changed)}"
