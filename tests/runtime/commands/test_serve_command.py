"""`python -m runtime serve`: what it is asked and what it refuses. How it serves: tests/runtime/serve/operation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtime.__main__ import main, parse
from runtime.commands import serve
from runtime.errors import InputError
from runtime.serve.limits import Limits
from runtime.serve.settings import Settings


def _settings(*arguments: str) -> Settings:
    return serve._settings(parse(["serve", *arguments]))


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 1
    return capsys.readouterr().err


def test_what_is_served_by_default() -> None:
    settings = _settings("bundles/biovil")
    assert dict(settings.bundles) == {"biovil": "bundles/biovil"}
    assert (settings.host, settings.port, settings.workers, settings.task) == ("127.0.0.1", 8080, 1, "fill-mask")
    assert settings.limits == Limits()
    assert settings.page
    assert not settings.origins
    assert settings.key_file is None


def test_bounds_and_options() -> None:
    settings = _settings(
        "b", "--max-json", "2M", "--max-images-size", "1G", "--max-texts", "5", "--max-wait", "0.5",
        "--max-requests", "7",
        "--cors-origin", "https://A.example", "--cors-origin", "http://b.example:81", "--no-page", "--workers", "3",
        "--precision", "fp32", "--threads", "2", "--task", "feature-extraction", "--drain-seconds", "4",
    )  # fmt: skip
    limits = settings.limits
    assert (limits.json_bytes, limits.image_bytes, limits.texts) == (2 << 20, 1 << 30, 5)
    assert (limits.wait_seconds, limits.requests, limits.images) == (0.5, 7, Limits().images)
    assert settings.origins == ("https://a.example", "http://b.example:81")
    assert (settings.page, settings.workers, settings.task, settings.drain_seconds) == (
        False,
        3,
        "feature-extraction",
        4,
    )
    assert (settings.engine.precision, settings.engine.threads) == ("fp32", 2)


def test_every_bound_has_an_option() -> None:
    fixed = {"nesting", "words", "phrases", "hits", "header_bytes"}
    assert {each.field for each in serve._BOUNDS} | fixed >= set(Limits.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("64M", 64 << 20), ("64MiB", 64 << 20), ("2k", 2048), ("1GB", 1 << 30), ("7b", 7)]
)
def test_sizes(text: str, expected: int) -> None:
    assert serve.size(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "M", "1.5M", "1T", ""])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(Exception, match="a size such as 64M is expected"):
        serve.size(text)


def test_bundles_by_name(tmp_path: Path) -> None:
    odd = tmp_path / "a=b c"
    odd.mkdir()
    settings = _settings("first=x/one", "x/two", str(odd))
    assert dict(settings.bundles) == {"first": "x/one", "two": "x/two", "a-b-c": str(odd)}
    with pytest.raises(InputError, match="Two bundles are called 'two'"):
        _settings("x/two", "two=y")
    with pytest.raises(InputError, match="cannot name a bundle"):
        _settings("a b=x")


def test_indexes(tmp_path: Path) -> None:
    folder = tmp_path / "an:index"
    folder.mkdir()
    plain, rooted, odd = _settings("b", "--index", "a=x/y", "--index", "b=x/y:films", "--index", f"c={folder}").indexes
    assert (plain.name, plain.folder, plain.root) == ("a", Path("x/y"), None)
    assert (rooted.folder, rooted.root) == (Path("x/y"), Path("films"))
    assert (odd.folder, odd.root) == (folder, None)
    for wrong in ("x/y", "=x", "a b=x", "a="):
        with pytest.raises(InputError, match="NAME=FOLDER"):
            _settings("b", "--index", wrong)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_not_let_in_without_keys(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(capsys, "nowhere", "--host", host)
    assert "--api-key-file" in message
    assert "--no-auth" in message


def test_who_asks_for_it_may_let_everybody_in(capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(capsys, "nowhere", "--host", "0.0.0.0", "--port", "0", "--no-auth")
    assert "There is no bundle at nowhere" in message


def test_keys_and_no_keys_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "nowhere", "--no-auth", "--api-key-file", "k"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_keys_are_read_before_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in _refused(capsys, "nowhere", "--api-key-file", str(tmp_path / "none"))


def test_origins(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("*", "reports.example", "https://a.example/path"):
        assert "--cors-origin" in _refused(capsys, "nowhere", "--cors-origin", wrong)


@pytest.mark.parametrize("package", ["uvicorn", "prometheus_client"])
def test_the_extra_is_named_where_it_is_missing(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = _refused(capsys, "nowhere")
    assert "pip install 'cxr-engine[serve]'" in message
    assert package.replace("_", "-") in message
