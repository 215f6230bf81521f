"""Which wing may import which: one way only, and no circle of modules within a wing.

Imports count wherever they stand: at the top, in a function, for type checking alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Package → its wings and loose modules, from the lowest: each may import those before it.
ORDER = {
    "runtime": (
        "errors",
        "process",
        "files",
        "engines",
        "bundle",
        "text",
        "image",
        "choice",
        "tasks",
        "engine",
        "loading",
        "archive",
        "retrieval",
        "triton",
        "serve",
        "commands",
    ),
    "export": (
        "errors",
        "families",
        "cards",
        "options",
        "progress",
        "samples",
        "reference",
        "checkpoints",
        "graphs",
        "proof",
        "precision",
        "parts",
        "staging",
        "summary",
        "build",
        "tensorrt",
        "triton",
        "demo",
    ),
    "bench": (
        "errors",
        "processes",
        "record",
        "peers",
        "measuring",
        "workloads",
        "loadgen",
        "quality",
        "pages",
        "serving",
        "manners",
        "compare",
        "headlines",
        "request",
        "session",
        "gpu",
        "run",
        "micro",
    ),
}
# Wings beside each other: the second is below the first in the list, and still not its business.
APART = {
    "runtime.image": {"runtime.text"},
    "runtime.choice": {"runtime.tasks"},
    "runtime.tasks": {"runtime.choice", "runtime.bundle", "runtime.engines"},
    "runtime.archive": {"runtime.choice", "runtime.tasks", "runtime.loading"},
    "runtime.retrieval": {"runtime.choice", "runtime.tasks", "runtime.loading"},
    "export.parts": {"export.checkpoints"},
}
# Package → others that it may import.
ACROSS = {"runtime": set(), "export": {"runtime"}, "bench": {"runtime", "export"}}


@cache
def modules() -> Mapping[str, Path]:
    """Dotted names of all modules → files."""
    found = {}
    for package in ORDER:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of `known` that a source file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            names = [
                full if (full := f"{node.module}.{alias.name}") in known else str(node.module) for alias in node.names
            ]
        yield from (name for name in names if name in known)


def room(module: str) -> str:
    """The wing or loose module of a package that a module belongs to."""
    return ".".join(module.split(".")[:2])


@cache
def arrows() -> Mapping[str, frozenset[str]]:
    """Module → modules that it imports."""
    return {
        name: frozenset(imports(path.read_text(encoding="utf-8"), modules())) - {name}
        for name, path in modules().items()
    }


def upward(table: Mapping[str, frozenset[str]]) -> list[str]:
    """Arrows that the tables above do not allow, in words."""
    wrong = []
    for name, imported in table.items():
        package, here = name.split(".")[0], room(name)
        order = [f"{package}.{each}" for each in ORDER[package]]
        below = order[: order.index(here)] if here in order else order
        for other in sorted(imported):
            there = room(other)
            if other.split(".")[0] != package:
                allowed = other.split(".")[0] in ACROSS[package]
            else:
                allowed = there == here or (there in below and there not in APART.get(here, ()))
            if not allowed:
                wrong.append(f"{name} imports {other}")
    return wrong


def circles(table: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Circles among modules; a wing's `__init__`, which hands names on, is no member of one."""
    wings = {name for name, path in modules().items() if path.name == "__init__.py"}
    found: list[list[str]] = []
    state: dict[str, int] = {}

    def visit(name: str, path: list[str]) -> None:
        state[name] = 1
        for other in sorted(table.get(name, frozenset()) - wings):
            if state.get(other) == 1:
                found.append([*path[path.index(other) :], other] if other in path else [other, other])
            elif other not in state:
                visit(other, [*path, other])
        state[name] = 2

    for name in sorted(set(table) - wings):
        if name not in state:
            visit(name, [name])
    return found


def test_imports_go_one_way() -> None:
    assert upward(arrows()) == []


def test_no_modules_import_each_other() -> None:
    assert circles(arrows()) == []


def test_every_wing_is_in_the_order() -> None:
    rooms = {room(name) for name in modules() if "." in name and not name.endswith(".__main__")}
    assert rooms == {f"{package}.{each}" for package, order in ORDER.items() for each in order}


@pytest.mark.parametrize("wing", sorted(name for name, path in modules().items() if path.name == "__init__.py"))
def test_a_wing_says_what_it_is_for(wing: str) -> None:
    source = modules()[wing].read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(source)) or ""
    assert said.splitlines()[0].endswith("."), f"{wing}: its __init__.py has no docstring"
    if wing.count(".") == 1:
        assert "Imports " in said, f"{wing}: its docstring does not say what it may import"


def test_what_is_not_allowed_is_found() -> None:
    table = {"runtime.text.windows": frozenset({"runtime.tasks.joint"}), "runtime.errors": frozenset({"export.build"})}
    assert upward(table) == ["runtime.text.windows imports runtime.tasks.joint", "runtime.errors imports export.build"]
    assert circles({"runtime.errors": frozenset({"runtime.engine"}), "runtime.engine": frozenset({"runtime.errors"})})
    assert list(imports("def f():\n    from runtime.text import windows", modules())) == ["runtime.text.windows"]
