"""What `make check` leaves out is marked, and what is left still reaches every wing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_wings import imports, modules
from tests.workers import TOGETHER, group

# pytest's own.
_BUILT_IN = {"filterwarnings", "parametrize", "skip", "skipif", "usefixtures", "xfail"}
_FILES = sorted((ROOT / "tests").rglob("*.py"))


def marks(node: ast.AST) -> Iterator[str]:
    """Names of the markers in a piece of code."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and ast.unparse(each.value) == "pytest.mark":
            yield each.attr


@cache
def imported(file: Path) -> frozenset[str]:
    """The packages' modules that a file of tests imports."""
    return frozenset(imports(file.read_text(encoding="utf-8"), modules()))


@cache
def fast_tests(file: Path) -> tuple[str, ...]:
    """Names of a file's tests that are not marked as slow."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and "slow" in marks(node):
            return ()
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return tuple(
        node.name for node in functions if not any("slow" in marks(decorator) for decorator in node.decorator_list)
    )


def test_every_marker_is_declared_and_every_declared_one_used() -> None:
    used = {name for file in _FILES for name in marks(ast.parse(file.read_text(encoding="utf-8")))}
    (declared,) = re.findall(
        r"^markers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    assert used - _BUILT_IN == set(re.findall(r'^ *"(\w+)', declared, re.MULTILINE))


def test_slow_and_fast_are_told_apart() -> None:
    here = fast_tests(Path(__file__))
    assert "test_slow_and_fast_are_told_apart" in here
    assert fast_tests(ROOT / "tests" / "test_full_size.py") == ()
    build = fast_tests(ROOT / "tests" / "export" / "test_build.py")
    assert "test_the_tiny_bundle_holds_what_the_manifest_says" in build
    assert "test_existing_places" not in build


@pytest.mark.parametrize("package", ["runtime", "export", "bench"])
def test_without_the_slow_ones_every_wing_is_tested(package: str) -> None:
    """By the folder of its tests, where it has one, and by a file that imports it."""
    tested = {module for file in _FILES if fast_tests(file) for module in imported(file)}
    for wing in sorted(path.parent.name for path in (ROOT / package).glob("*/__init__.py")):
        if wing == "micro":  # of tests itself; tests/bench/test_micro.py runs them
            continue
        folder = ROOT / "tests" / package / wing
        files = [*folder.rglob("test_*.py")]
        assert not files or any(map(fast_tests, files)), f"{folder.relative_to(ROOT)} has slow tests only"
        name = f"{package}.{wing}"
        assert any(f"{module}.".startswith(f"{name}.") for module in tested), f"no fast test imports {name}"


def test_what_goes_to_one_worker_is_there() -> None:
    for path in (path for together in TOGETHER for path in together):
        assert (ROOT / path).exists(), path


def test_a_file_that_is_named_does_not_go_where_its_folder_goes() -> None:
    assert group("tests/trained/test_cache.py::test_one")[1] == "tests/trained/"
    assert group("tests/trained/test_clip.py::test_one")[1] == "tests/trained/test_clip.py"
    assert group("tests/test_wings.py::test_one") == (len(TOGETHER), "tests/test_wings.py")
