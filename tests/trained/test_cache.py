"""Trained models are taken from the cache until something that determines their weights changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trained.models import biovil, cache


def test_comments_and_layout_do_not_determine_weights(tmp_path: Path) -> None:
    def code(text: str) -> bytes:
        (tmp_path / "module.py").write_text(text)
        return cache._code(tmp_path / "module.py")

    plain = code("rate = 0.1\ndef step():\n    return rate\n")
    assert code('"""Says more."""\nrate = .1  # why\n\n\ndef step():\n    """Of a step."""\n    return rate') == plain
    assert code("rate = 0.2\ndef step():\n    return rate\n") != plain


def test_what_is_cached_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def run(command: list[str], **_: object) -> None:
        names.append(command[-2])
        (Path(command[-1]) / "weights").write_text("trained")

    monkeypatch.setattr(cache.subprocess, "run", run)
    first = biovil.checkpoint(tmp_path)
    assert (first / "weights").read_text() == "trained"
    assert biovil.checkpoint(tmp_path) == first
    assert names == ["biovil"]
    # Other code, in the model's own module or in one that it is made of; another library.
    for name, other in (("_code", lambda file: b"other"), ("version", lambda library: "0.0")):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, other)
            assert biovil.checkpoint(tmp_path) != first
    assert names == ["biovil"] * 3
    assert [*tmp_path.glob("training-*")] == []
