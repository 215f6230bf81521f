"""The verdict on types is the same whether the libraries of an extra are installed or not: none of them is followed."""

from __future__ import annotations

import ast
import re
import sys

from tests.conftest import ROOT

PACKAGES = ("runtime", "export", "bench")
# Typed, and required by the runtime itself: they are wherever types are checked.
FOLLOWED = {"numpy", "PIL", "tokenizers"}


def libraries(source: str) -> set[str]:
    """The packages that a module imports anywhere in it, but for Python's own and ours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {*PACKAGES, "__future__"}


def test_every_library_that_an_extra_brings_is_listed_for_mypy() -> None:
    options = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"module = \[\n([^]]*)\]\nignore_missing_imports = true\nfollow_imports = .skip", options)
    assert section, "the overrides of mypy have another form now"
    listed = set(re.findall(r'"(\w+)\.\*"', section[1]))
    imported: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            imported |= libraries(file.read_text(encoding="utf-8"))
    assert imported - FOLLOWED == listed


def test_the_test_sees_what_is_imported() -> None:
    source = "import os, torch.nn\nfrom . import x\ndef f():\n    from onnx.helper import y\n    import runtime.text\n"
    assert libraries(source) == {"torch", "onnx"}
