"""Nothing but `runtime.process.console` touches the standard streams."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLACE = "runtime/process/console.py"
# A worker's own protocol: lines of JSON in, lines of JSON out, on descriptors that it keeps for itself.
PROTOCOLS = {"bench/measuring/worker.py": ["sys.stdin"], "bench/serving/load/worker.py": ["sys.stdin"]}
_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def uses(source: str) -> list[str]:
    """What in a module prints by itself, in the order of lines."""
    nodes = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Call, ast.Attribute, ast.ImportFrom))
    ]
    return [each for node in sorted(nodes, key=lambda node: node.lineno) for each in _uses(node)]


def _uses(node: ast.Call | ast.Attribute | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [f"sys.{each.name}" for each in node.names if node.module == "sys" and each.name in _STREAMS]
    if isinstance(node, ast.Attribute):
        of_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
        return [f"sys.{node.attr}"] if of_sys and node.attr in _STREAMS else []
    name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
    if name in ("print", "input") and isinstance(node.func, ast.Name):
        return [name]
    # rich prints to a stream that it is told; argparse has a subclass here; tracebacks are notes.
    told = "file" in {each.arg for each in node.keywords}
    return (
        [f"{name}()"] if name in ("ArgumentParser", "print_exc") or (name in ("Console", "tqdm") and not told) else []
    )


@pytest.mark.parametrize("package", ["runtime", "export", "bench"])
def test_one_place_prints(package: str) -> None:
    files = [file.relative_to(ROOT).as_posix() for file in sorted((ROOT / package).rglob("*.py"))]
    assert files
    found = {name: uses(Path(ROOT, name).read_text(encoding="utf-8")) for name in files if name != PLACE}
    assert {name: each for name, each in found.items() if each} == {
        name: each for name, each in PROTOCOLS.items() if name.startswith(package)
    }


def test_the_test_sees_what_prints() -> None:
    source = """
import argparse, sys, traceback
print("x")
sys.stderr.write("x")
from sys import stdout
Console(stderr=True)
argparse.ArgumentParser()
traceback.print_exc()
"""
    assert uses(source) == ["print", "sys.stderr", "sys.stdout", "Console()", "ArgumentParser()", "print_exc()"]
    assert uses("print_result('x')\nConsole(file=note_stream())\nconsole.print('x')\nsys.exit()\n") == []
