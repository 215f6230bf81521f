"""Runs of `embed` into folders, for the tests of archives."""

from __future__ import annotations

import json
from pathlib import Path

from runtime.__main__ import main

BAD_EVERY = 7


def embed(bundle: Path, *arguments: object) -> int:
    return main(["embed", str(bundle), "--provider", "cpu", *map(str, arguments)])


def write_reports(path: Path, count: int) -> Path:
    """Every seventh report cannot be used."""
    rows = [
        f"s{index},{'[SEP]' if index % BAD_EVERY == 3 else 'no effusion ' * (index % 23)}" for index in range(count)
    ]
    path.write_text("study,report\n" + "\n".join(rows) + "\n")
    return path


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "_job.json"}


def rejects(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "_rejects.jsonl").read_text().splitlines()]
