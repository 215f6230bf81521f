"""The cache folder of compiled engines."""

from __future__ import annotations

import logging
import stat
import sys
from pathlib import Path

import pytest

from runtime.process import cache
from runtime.process.cache import cache_folder, cache_path


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    cache._warn_once.cache_clear()
    monkeypatch.delenv("CXR_ENGINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/cxr-engine/openvino"),
        ("linux", {"XDG_CACHE_HOME": "{root}/xdg"}, "xdg/cxr-engine/openvino"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/cxr-engine/openvino"),
        ("linux", {"XDG_CACHE_HOME": "{root}/xdg", "CXR_ENGINE_CACHE": "{root}/own"}, "own/openvino"),
        ("darwin", {}, "home/Library/Caches/cxr-engine/openvino"),
        ("win32", {"LOCALAPPDATA": "{root}/local"}, "local/cxr-engine/openvino"),
        ("win32", {}, "home/AppData/Local/cxr-engine/openvino"),
    ],
)
def test_the_place_by_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", system)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(root=tmp_path))
    folder = cache_folder("openvino")
    assert folder == tmp_path / expected
    assert folder.is_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_place_that_cannot_be_written_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "runtime"):
        assert cache_folder("tensorrt") is None
        assert cache_folder("tensorrt") is None
    assert len(caplog.records) == 1
    assert str(tmp_path / "file") in caplog.text
    assert "CXR_ENGINE_CACHE" in caplog.text


@pytest.mark.parametrize("home", ["{root}/nowhere", "relative", "{root}/file"])
def test_a_home_that_is_not_there_is_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, home: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home.format(root=tmp_path))
    with caplog.at_level(logging.WARNING, "runtime"):
        assert cache_folder("tensorrt") is None
        assert cache_folder("openvino") is None
    assert cache_path("openvino") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert len(caplog.records) == 1
    assert "no home folder was found" in caplog.text


def test_one_line_says_that_a_place_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one for each kind of file."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "runtime"):
        assert [cache_folder(kind) for kind in ("tensorrt", "openvino", "libraries")] == [None] * 3
    assert len(caplog.records) == 1
