"""`python -m runtime tune`: what it measures, prints and stores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import open_bundle
from runtime.choice import rounds, tune, tuned, workload
from runtime.choice.rounds import Search
from runtime.choice.workload import Setting, random_texts
from runtime.engines import PROVIDERS, default_threads
from runtime.text import Tokenizer
from tests.runtime.handmade import artifact, fp32, record, write_bundle

CPUS = ("cpu", "openvino")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little work, few rounds, and a cache of this test's own."""
    monkeypatch.setattr(workload, "_SECONDS", 1e-3)
    monkeypatch.setattr(workload, "_QUERIES", 1)
    monkeypatch.setattr(rounds, "_WITHIN", (100.0, 100.0, 1.0))
    monkeypatch.setattr(tune, "_BATCHES", {"text": (256, 512), "image": (2, 4)})
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    good, bad = record("cpu", 0.999, 5, "int8"), record("cpu", 0.9, 1, "int8-dynamic")
    text = [fp32(), artifact("int8", CPUS, good), artifact("int8-dynamic", CPUS, bad)]
    return write_bundle(tmp_path / "b", text, [fp32()])


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("tune/*.json"))


def test_the_table_is_printed_and_stored_and_auto_takes_what_it_marks(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(bundle), "--provider", "cpu"]) == 0
    captured = capsys.readouterr()
    table = captured.out.splitlines()
    expected = "part engine precision threads streams batch items/s relative alone fidelity rounds"
    assert table[0].split() == expected.split()
    (file,) = stored(tmp_path)
    assert str(file) in captured.err
    rows = json.loads(file.read_text())["rows"]
    assert {(row["part"], row["precision"]) for row in rows} == {
        ("text", "fp32"),
        ("text", "int8"),
        ("image", "fp32"),
    }, "int8-dynamic is not faithful"
    streams = {row["streams"] for row in rows}
    assert streams == {1, default_threads()} | ({default_threads() // 2} - {0})
    assert {row["batch"] for row in rows if row["part"] == "text"} == {256, 512}
    assert all(math.isfinite(row["rate"]) and row["rate"] > 0 and row["milliseconds"] > 0 for row in rows)
    assert "passed over: text int8-dynamic on cpu: its mean cosine on cpu is 0.9000; 0.99 is asked for" in captured.out
    chosen = [line.split() for line in table if line.endswith("chosen")]
    assert [line[0] for line in chosen] == ["text", "image"]
    best = {part: max((row for row in rows if row["part"] == part), key=lambda row: row["rate"]) for part in CHOSEN}
    engine = runtime.load(bundle)
    assert engine.provider == "cpu"
    for part, line in zip(CHOSEN, chosen, strict=True):
        assert line[2] == engine.precision[part] == best[part]["precision"]
        assert (int(line[4]), int(line[5])) == (best[part]["streams"], best[part]["batch"])
    assert "the only engine as tuned on this machine for throughput" in engine.reason
    assert (engine.text.batches.sessions.streams, engine.text.batches.token_budget) == (
        int(chosen[0][4]),
        int(chosen[0][5]),
    )
    assert (engine.image._sessions.streams, engine.image.batch) == (int(chosen[1][4]), int(chosen[1][5]))


CHOSEN = ("text", "image")


def test_tuned_settings_change_speed_and_not_embeddings(tiny, tmp_path: Path) -> None:
    texts = [f"opacity {number}" for number in range(40)]
    before = runtime.load(tiny.bundle, provider="cpu").text.encode(texts)
    assert main(["tune", str(tiny.bundle), "--provider", "cpu", "--part", "text"]) == 0
    engine = runtime.load(tiny.bundle, provider="cpu", parts=["text"])
    assert engine.reason == "cpu: asked for, and tuned on this machine"
    assert np.abs(engine.text.encode(texts) - before).max() < 1e-6


def test_json_says_the_same(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle), "--provider", "cpu", "--part", "text", "--threads", "1,2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["threads"] for row in said["rows"]} == {1, 2}
    assert {row["part"] for row in said["rows"]} == {"text"}
    assert said["rows"][0]["relative"] == 1.0
    assert sum(row["chosen"] for row in said["rows"]) == 1
    assert {row["fidelity"] for row in said["rows"]} == {0.999, None}
    assert said["left_out"] == 0
    assert {each["precision"] for each in said["passed_over"]} == {"int8-dynamic"}


def test_min_fidelity_passes_over_what_was_recorded_below(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tune", str(bundle), "--provider", "cpu", "--part", "text", "--json", "--min-fidelity"]
    assert main([*arguments, "0.9995"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["precision"] for row in said["rows"]} == {"fp32"}
    assert main([*arguments, "0.5"]) == 0
    assert {row["precision"] for row in json.loads(capsys.readouterr().out)["rows"]} == {
        "fp32",
        "int8",
        "int8-dynamic",
    }


def test_parts_tuned_one_after_the_other_are_both_kept(bundle: Path, tmp_path: Path) -> None:
    for part in CHOSEN:
        assert main(["tune", str(bundle), "--provider", "cpu", "--part", part]) == 0
    (file,) = stored(tmp_path)
    assert {row["part"] for row in json.loads(file.read_text())["rows"]} == set(CHOSEN)


def test_a_cache_that_cannot_be_written_costs_the_table_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "file"))
    assert main(["tune", str(bundle), "--provider", "cpu", "--part", "image"]) == 1
    captured = capsys.readouterr()
    assert "chosen" in captured.out
    assert "The choice could not be stored" in captured.err
    assert "CXR_ENGINE_CACHE" in captured.err


def test_an_interruption_stores_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = workload.Workbench.seconds
    calls = []

    def interrupted(self, setting: Setting) -> float:
        calls.append(setting)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, setting)

    monkeypatch.setattr(workload.Workbench, "seconds", interrupted)
    assert main(["tune", str(bundle), "--provider", "cpu"]) == 130
    assert stored(tmp_path) == []


def test_a_budget_that_ends_at_once_measures_nothing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle), "--budget", "1e-9"]) == 1
    assert "Nothing could be measured in 1e-09 s" in capsys.readouterr().err
    assert main(["tune", str(bundle), "--budget", "0"]) == 1
    assert "seconds above 0" in capsys.readouterr().err


def test_what_was_measured_when_the_budget_ended_counts_and_the_rest_is_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounds.Search, "_expected", lambda self, *_: 0.0 if len(self._seconds) < 2 else math.inf)
    assert main(["tune", str(bundle), "--provider", "cpu"]) == 0
    assert len(json.loads(stored(tmp_path)[0].read_text())["rows"]) == 2
    assert "settings were not measured" in capsys.readouterr().out


def test_an_engine_that_cannot_open_a_graph_is_passed_over(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = workload.open_sessions

    def broken(bundle, choice, *others):
        if choice.precision == "int8":
            raise runtime.ProviderError("no such kernel")
        return opened(bundle, choice, *others)

    monkeypatch.setattr(workload, "open_sessions", broken)
    report = tune.tune(bundle, providers=["cpu"], parts=["text"])
    assert {row.precision for row in report.tuning.rows} == {"fp32"}
    assert ("int8", "no such kernel") in [(each.precision, each.reason) for each in report.passed_over]


def test_texts_are_as_long_as_reports(bundle: Path) -> None:
    tokenizer = Tokenizer(bundle / "text", open_bundle(bundle).text_part().tokenization)
    tokenizer.max_length = 512
    rows = random_texts(200_000, tokenizer)
    lengths = np.array([len(row) for row in rows])
    assert lengths.mean() == pytest.approx(50, rel=0.03)
    assert np.percentile(lengths, 95) == pytest.approx(100, rel=0.05)
    assert rows == random_texts(200_000, tokenizer)
    assert [len(row) for row in random_texts(16, tokenizer)] == [16]


# --- the rounds, with times made up -----------------------------------------------------------------------------------


class Scripted:
    """A bench where each setting takes its time, of a clock that only it turns."""

    def __init__(self, seconds: dict[Setting, float], alone: dict[Setting, float] | None = None) -> None:
        self.now = 0.0
        self.measured: list[Setting] = []
        self.kept: set[Setting] = set()
        self._seconds = seconds
        self._alone = alone or {}

    def items(self, part: str) -> int:
        return 100

    def seconds(self, setting: Setting) -> float:
        self.measured.append(setting)
        self.now += self._seconds[setting]
        return self._seconds[setting]

    def milliseconds(self, setting: Setting) -> float:
        return self._alone.get(setting, 1.0)

    def keep(self, settings: Iterable[Setting]) -> None:
        self.kept = set(settings)


def setting(precision: str, batch: int = 512) -> Setting:
    return Setting("text", "cpu", precision, 2, 2, batch)


def run(bench: Scripted, bases: list[Setting], variants: list[Setting], budget: float, goal: str, tmp_path: Path):
    choice = tune.choose_precision(open_bundle(write_bundle(tmp_path / "s", [fp32()])), "text", PROVIDER)
    search = Search(bench, budget, goal, lambda: bench.now)
    choices = {each.alone[:3]: choice for each in bases}
    search.run(bases, lambda base: [each for each in variants if each.precision == base.precision], choices)
    return search


PROVIDER = PROVIDERS["cpu"]


def test_the_budget_goes_to_the_close_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_WITHIN", (1.5, 1.5, 1.25, 1.1))
    times = {setting("fp32"): 4.0, setting("int8"): 1.0, setting("bf16"): 1.4, setting("fp32", 256): 0.1}
    times |= {setting("int8", 256): 0.9, setting("int8", 1024): 2.0, setting("bf16", 256): 1.2}
    bench = Scripted(times)
    search = run(bench, list(times)[:3], list(times)[3:], 1000, "throughput", tmp_path)
    counts = {each: bench.measured.count(each) for each in times}
    assert counts[setting("fp32")] == 1
    assert counts[setting("fp32", 256)] == 0, "variants of what is slow are not tried"
    assert counts[setting("int8", 1024)] == 1
    assert counts[setting("bf16", 256)] == 2, "within 1.5 of the best, but not within 1.25"
    assert counts[setting("int8", 256)] == max(counts.values()) == 3
    best = search.rows()[0]
    assert (best.precision, best.batch, best.rounds, best.rate) == ("int8", 256, 3, pytest.approx(100 / 0.9))


def test_the_budget_is_not_exceeded_by_what_is_known_to_take_long(tmp_path: Path) -> None:
    times = {setting("int8"): 2.0, setting("int8", 256): 2.0, setting("int8", 1024): 2.0}
    bench = Scripted(times)
    search = run(bench, [setting("int8")], list(times)[1:], 7.0, "throughput", tmp_path)
    assert bench.now <= 7.0
    assert search.left_out == 1
    assert len(search.rows()) == 2


def test_for_latency_the_fastest_alone_is_first(tmp_path: Path) -> None:
    times = {setting("int8"): 1.0, setting("fp32"): 3.0}
    bench = Scripted(times, {setting("int8"): 9.0, setting("fp32"): 5.0})
    assert run(bench, list(times), [], 1000, "latency", tmp_path).rows()[0].precision == "fp32"
    assert run(bench, list(times), [], 1000, "throughput", tmp_path / "t").rows()[0].precision == "int8"


def test_the_goal_is_stored_and_decides(bundle: Path, tmp_path: Path) -> None:
    assert main(["tune", str(bundle), "--provider", "cpu", "--part", "text", "--for", "latency"]) == 0
    opened = open_bundle(bundle)
    found = tuned.read_tuning(opened)
    assert found is not None
    assert found.goal == "latency"
    rows = tuple(
        replace(row, milliseconds=1.0 if row.precision == "int8" else 2.0, rate=1.0 if row.precision == "int8" else 9.0)
        for row in found.rows
    )
    tuned.write_tuning(opened, replace(found, rows=rows))
    assert runtime.load(bundle, parts=["text"]).precision == {"text": "int8"}
    tuned.write_tuning(opened, replace(found, rows=rows, goal="throughput"))
    assert runtime.load(bundle, parts=["text"]).precision == {"text": "fp32"}


def test_each_engines_fastest_on_record_goes_first(tmp_path: Path) -> None:
    both = [record("cpu", 1.0, 90, "fp32"), record("openvino", 1.0, 30, "fp32")]
    int8 = [record("cpu", 0.999, 40, "int8"), record("openvino", 0.999, 10, "int8")]
    opened = open_bundle(write_bundle(tmp_path / "b2", [fp32(*both), artifact("int8", CPUS, *int8)]))
    choices = {
        ("text", name, precision): tune.choose_precision(opened, "text", PROVIDERS[name], precision)
        for name in CPUS
        for precision in ("fp32", "int8")
    }
    order = [(each.provider, each.precision) for each in tune._bases(choices, PROVIDERS, [2])]
    assert order == [("openvino", "int8"), ("cpu", "int8"), ("openvino", "fp32"), ("cpu", "fp32")]
