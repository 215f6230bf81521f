"""The trained model is taken from the cache until something that determines its weights changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import trained


def test_comments_and_layout_do_not_determine_weights(tmp_path: Path) -> None:
    def code(text: str) -> bytes:
        (tmp_path / "module.py").write_text(text)
        return trained._code(tmp_path / "module.py")

    plain = code("rate = 0.1\ndef step():\n    return rate\n")
    assert code('"""Says more."""\nrate = .1  # why\n\n\ndef step():\n    """Of a step."""\n    return rate') == plain
    assert code("rate = 0.2\ndef step():\n    return rate\n") != plain


def test_what_is_cached_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained.subprocess, "run", lambda *_, **__: pytest.fail("the model is trained"))
    cached = tmp_path / f"trained-{trained._digest()}"
    cached.mkdir()
    assert trained.trained_checkpoint(tmp_path) == cached
    monkeypatch.setattr(trained, "_code", lambda file: b"other")
    with pytest.raises(pytest.fail.Exception, match="the model is trained"):
        trained.trained_checkpoint(tmp_path)
