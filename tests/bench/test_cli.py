"""The commands on the tiny system, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import cold_start, memory
from bench.__main__ import main
from bench.workloads import RATE
from export.sentences import SENTENCES
from runtime.providers import PROVIDERS
from tests.conftest import System


def of(tiny: System, provider: str = "cpu") -> list[str]:
    named = ["--bundle", str(tiny.bundle), "--checkpoint", str(tiny.checkpoint)]
    return [*named, "--provider", provider, "--precision", "fp32", "--rounds", "1", "--threads", "1"]


def test_latency(tiny: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", *of(tiny), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["workload"] == "one sentence of 16 tokens"
    assert {name: len(seconds) for name, seconds in report["seconds"].items()} == {
        "PyTorch fp32 eager": 10,
        "this engine (cpu, fp32)": 10,
    }
    assert report["share_of_int8_rate"] == {}


@pytest.mark.skipif(PROVIDERS["openvino"].missing() is not None, reason="OpenVINO computes the rate")
def test_texts_beside_every_peer(tiny: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("\n".join([*SENTENCES, *SENTENCES[:5]]), encoding="utf-8")
    assert main(["texts", *of(tiny), "--texts", str(file), "--limit", "20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["seconds"]) == 5
    assert set(report["share_of_int8_rate"]) == set(report["seconds"]) - {RATE}
    assert report["items"] == 20


def test_memory_with_few_requests(
    tiny: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_SOME", 2)
    few = ["--texts-count", "3", "--images-count", "1"]
    assert main(["memory", *of(tiny), *few, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["texts"]) == 3
    assert all(30e6 < value < 4e9 for value in (report["first"], *report["texts"], report["last"]))
    assert main(["memory", *of(tiny, "abacus"), *few]) == 1
    assert "no provider 'abacus'" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_found_before_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "prepare", lambda *arguments: pytest.fail("exported"))
    assert main(["texts", "--texts", str(tmp_path / "absent.jsonl")]) == 1
    assert "absent.jsonl" in capsys.readouterr().err
    (tmp_path / "empty.txt").touch()
    assert main(["texts", "--texts", str(tmp_path / "empty.txt")]) == 1
    assert "holds no texts" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_exported_has_no_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "--checkpoint", str(tmp_path)]) == 1
    assert "the checkpoint could not be exported" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latency", "--bundle", "b"], "--bundle needs its --checkpoint"),
        (["latency", "--rounds", "0"], "argument --rounds: 0; at least 1 is expected"),
        (["images", "--batch", "-1"], "argument --batch: -1; at least 1 is expected"),
        (["memory", "--texts-count", "some"], "argument --texts-count: invalid _count value: 'some'"),
        (["texts"], "--texts"),
        (["sounds"], "invalid choice: 'sounds'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
