"""report.json: what is written is read again, and what is no report is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import PeerError
from bench.record import read_report, write_json
from bench.record.report import SCHEMA_VERSION
from tests.bench.a_report import a_report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("record") / "report.json"
    write_json(a_report(partial="interrupted"), file)
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    report = a_report(3, partial="interrupted", trained=True)
    write_json(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_derived_figures_are_for_others(tmp_path: Path) -> None:
    report = a_report(cases=["query"])
    write_json(report, tmp_path / "report.json", headlines=[{"ratio": 11.8}])
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["headlines"] == [{"ratio": 11.8}]
    assert content["schema_version"] == SCHEMA_VERSION
    assert read_report(tmp_path / "report.json") == report


def test_a_write_that_fails_leaves_the_last_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    report = a_report(cases=["query"])
    write_json(report, file)

    def half(self: Path, text: str, **options: object) -> None:
        with self.open("w", encoding="utf-8") as opened:
            opened.write(text[:100])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="the disk is full"):
        write_json(a_report(5), file)
    monkeypatch.undo()
    assert read_report(file) == report


def test_a_number_that_json_lacks_is_refused_when_written(tmp_path: Path) -> None:
    report = a_report(cases=["query"])
    report.seconds = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_json(report, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"not json",
        b"\xff\xfe",
        b'{"schema_version": 1}',
        b"[" * 100_000,
        b'{"created": "the old format", "seconds": {"PyTorch": [1.0]}}',
    ],
)
def test_what_is_no_report_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(content)
    with pytest.raises(PeerError, match=r"some\.json is no report"):
        read_report(file)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    write_json(a_report(cases=["query"]), file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(PeerError, match=r"some\.json is no report"):
        read_report(file)


def test_another_version_is_named(written: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(json.dumps({**written, "schema_version": 99}), encoding="utf-8")
    with pytest.raises(PeerError, match=rf"some\.json has schema version 99.* reads {SCHEMA_VERSION}"):
        read_report(file)


def _row(content: dict[str, Any]) -> dict[str, Any]:
    return content["cases"][0]["rows"][0]


# What is done to a good report, and what the error says of it.
_DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a key is gone": (lambda content: content.pop("machine"), "machine"),
    "a row's key is unknown": (lambda content: _row(content).update(colour="red"), "colour"),
    "a row's key is gone": (lambda content: _row(content).pop("contestant"), "contestant"),
    "samples are text": (lambda content: _row(content).update(samples="fast"), "samples are no lists"),
    "a pass is text": (lambda content: _row(content)["samples"][0].append("1.0"), "samples are no lists"),
    "a round has no pass": (lambda content: _row(content)["samples"].append([]), "samples are no lists"),
    "a pass took no time": (lambda content: _row(content)["samples"][0].append(0.0), "samples are no lists"),
    "a pass is NaN": (lambda content: _row(content)["samples"][0].append(float("nan")), "NaN"),
    "memory is text": (lambda content: _row(content).update(peak_bytes=["much"]), "peak_bytes"),
    "a status is unknown": (lambda content: _row(content).update(status="fine"), "status 'fine'"),
    "a row is there twice": (lambda content: content["cases"][0]["rows"].append(_row(content)), "is there 2 times"),
    "a case is there twice": (lambda content: content["cases"].append(content["cases"][0]), "case 'texts'"),
    "nobody's row": (lambda content: _row(content).update(contestant="nobody"), "'nobody': not among"),
    "a rate is negative": (lambda content: content["cases"][0]["rates"]["fp32"].update(operations=-1), "rate 'fp32'"),
    "the machine is a list": (lambda content: content.update(machine=["fast"]), "machine is a list"),
    "cases are null": (lambda content: content.update(cases=None), "is no report"),
}


@pytest.mark.parametrize("what", _DAMAGES)
def test_damage_is_named(what: str, written: dict[str, Any], tmp_path: Path) -> None:
    damage, said = _DAMAGES[what]
    content = json.loads(json.dumps(written))
    damage(content)
    file = tmp_path / "some.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PeerError, match=r"some\.json") as raised:
        read_report(file)
    assert said in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read_report(tmp_path / "missing.json")


def test_reports_of_before_told_in_the_remark_alone_whose_graph_a_peer_runs(tmp_path: Path) -> None:
    write_json(a_report(), tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    for each in content["contestants"]:
        del each["our_graph"]
        if each["name"] == "openvino-bf16":
            each["note"] = "the bundle's graph; sorted by length"
    (tmp_path / "report.json").write_text(json.dumps(content))
    found = read_report(tmp_path / "report.json")
    assert [each.name for each in found.contestants if each.our_graph] == ["openvino-bf16"]
