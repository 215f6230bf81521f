"""The trial of engines at load: when there is one, that its verdict is kept, and what becomes of it otherwise."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import open_bundle
from runtime.choice import trial, trials, tuned
from runtime.choice.doctor import examine
from runtime.choice.info import describe_bundle
from runtime.choice.trial_process import measure, take_turns
from runtime.choice.trials import read_trials
from runtime.choice.tuned import new_tuning, write_tuning
from runtime.engines import PROVIDERS, default_threads, providers
from runtime.process import apart
from tests.conftest import edit_json
from tests.runtime.choice.test_decision import row, text_of
from tests.runtime.handmade import artifact, record, write_bundle

pytestmark = pytest.mark.skipif(PROVIDERS["openvino"].missing() is not None, reason="compares two engines")
BOTH = ("cpu", "openvino")
THREADS = default_threads()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trial"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The questions put to a process of its own, which answers that OpenVINO is twice as fast."""
    questions: list[dict] = []

    def answer(module: str, arguments: list[str], seconds: float) -> tuple[dict, None]:
        question = json.loads(arguments[0])
        questions.append(question)
        return {"trials": [found(part, names) for part, names in question["parts"].items()]}, None

    def found(part: str, precisions: dict[str, str]) -> dict:
        return {
            "part": part,
            "threads": questions[-1]["threads"],
            "precisions": precisions,
            "milliseconds": {"cpu": 20.0, "openvino": 10.0},
            "rounds": 3,
        }

    monkeypatch.setattr(trial, "ask_apart", answer)
    return questions


def elsewhere(tmp_path: Path, name: str = "b", images: bool = False) -> Path:
    """A bundle with times of another processor, where ONNX Runtime was faster."""
    texts = text_of(("cpu", 5), ("openvino", 9), processor="Another")
    pictures = [
        artifact(kind, BOTH, *(record(engine, 0.999, ms, kind, "Another") for engine in BOTH))
        for kind, ms in (("fp32", 100), ("int8", 5))
    ]
    return write_bundle(tmp_path / name, texts, pictures if images else ())


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.json"))


# --- a real one -------------------------------------------------------------------------------------------------------


def test_the_faster_in_a_trial_is_taken_and_the_verdict_kept(tmp_path: Path, cache: Path, caplog) -> None:
    bundle = elsewhere(tmp_path, images=True)
    with caplog.at_level(logging.INFO, "runtime"):
        engine = runtime.load(bundle)
    (file,) = files(cache)
    kept = read_trials(open_bundle(bundle))
    assert [each.part for each in kept] == ["text", "image"]
    assert all(set(each.milliseconds) == set(BOTH) and each.rounds >= 1 and not each.fault for each in kept)
    product = {name: kept[0].milliseconds[name] * kept[1].milliseconds[name] for name in BOTH}
    assert engine.provider == min(product, key=product.__getitem__)
    assert f"{engine.provider}: the fastest of cpu, openvino in a trial on this machine (text int8 " in engine.reason
    assert "Trying cpu, openvino side by side" in caplog.text
    assert engine.reason in caplog.text
    before = file.stat().st_mtime_ns
    again = runtime.load(bundle)
    assert (again.provider, again.reason, file.stat().st_mtime_ns) == (engine.provider, engine.reason, before)


def test_the_engine_that_loses_is_never_opened_in_this_process(tmp_path: Path, monkeypatch) -> None:
    opened: list[str] = []

    def spy(name: str):
        provider = PROVIDERS[name]
        return replace(provider, open=lambda model, options: opened.append(name) or provider.open(model, options))

    monkeypatch.setattr(providers, "PROVIDERS", {name: spy(name) for name in BOTH} | {"cuda": PROVIDERS["cuda"]})
    engine = runtime.load(elsewhere(tmp_path))
    assert "in a trial on this machine" in engine.reason
    assert opened == [engine.provider]


# --- when there is one ------------------------------------------------------------------------------------------------


def test_a_verdict_is_used_again_by_all_who_ask_the_same(tmp_path: Path, asked: list[dict]) -> None:
    bundle = elsewhere(tmp_path)
    engine = runtime.load(bundle)
    assert engine.provider == "openvino"
    assert engine.reason == (
        "openvino: the fastest of cpu, openvino in a trial on this machine "
        "(text int8 10.0 ms a batch; cpu: text 20.0 ms a batch)"
    )
    assert runtime.load(bundle, trial=False).reason == engine.reason
    assert len(asked) == 1
    assert asked[0] == {
        "bundle": str(bundle),
        "parts": {"text": {"cpu": "int8", "openvino": "int8"}},
        "threads": THREADS,
        "seconds": 2.0,
    }


def test_other_threads_precisions_bundles_and_parts_are_other_questions(tmp_path: Path, asked: list[dict]) -> None:
    bundle = elsewhere(tmp_path, images=True)
    runtime.load(bundle, parts="text")
    runtime.load(bundle)
    assert [list(each["parts"]) for each in asked] == [["text"], ["image"]], "texts were tried already"
    runtime.load(bundle, parts="text", threads=THREADS + 1)
    runtime.load(elsewhere(tmp_path, "c"), parts="text")
    assert [each["threads"] for each in asked[2:]] == [THREADS + 1, THREADS]
    runtime.load(bundle)
    runtime.load(bundle, parts="text", threads=THREADS + 1)
    assert len(asked) == 4


@pytest.mark.parametrize(
    "options",
    [{"trial": False}, {"provider": "cpu"}, {"precision": "fp32"}],
    ids=["told not to", "a named engine", "fp32 alone"],
)
def test_nothing_is_tried_where_nobody_wants_it_or_it_gains_little(
    tmp_path: Path, cache: Path, asked: list[dict], options: dict
) -> None:
    engine = runtime.load(elsewhere(tmp_path), **options)
    assert engine.provider == "cpu"
    assert asked == []
    assert not cache.exists()


def test_one_engine_alone_is_not_tried(tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(PROVIDERS["openvino"], missing=lambda: "it is not installed")
    monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "openvino": absent})
    assert runtime.load(elsewhere(tmp_path)).reason == "cpu: the only engine here that can run it"
    assert asked == []


def test_what_was_tuned_or_recorded_here_is_not_tried(tmp_path: Path, asked: list[dict]) -> None:
    runtime.load(write_bundle(tmp_path / "here", text_of(("cpu", 5), ("openvino", 9))))
    bundle = elsewhere(tmp_path)
    opened = open_bundle(bundle)
    write_tuning(opened, new_tuning(opened, "throughput", (row("text", "cpu", "int8", 1),)))
    assert "as tuned on this machine" in runtime.load(bundle).reason
    assert asked == []


def test_where_a_gpu_goes_first_nothing_is_tried(tmp_path: Path, asked: list[dict], monkeypatch) -> None:
    gpu = replace(PROVIDERS["cuda"], missing=lambda: None, processor=lambda: "NVIDIA L4", open=PROVIDERS["cpu"].open)
    monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "cuda": gpu})
    texts = [replace(each, providers=(*BOTH, "cuda")) for each in text_of(("cpu", 5), ("openvino", 9), processor="X")]
    assert runtime.load(write_bundle(tmp_path / "b", texts)).provider == "cuda"
    assert asked == []


def test_what_the_command_line_says(tmp_path: Path, asked: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, out = elsewhere(tmp_path), tmp_path / "out.npy"
    arguments = ["embed", str(bundle), "--text", "no edema", "--out", str(out), "--force"]
    assert main([*arguments, "--no-trial"]) == 0
    assert asked == []
    assert main(arguments) == 0
    assert len(asked) == 1
    assert "openvino, text int8" in capsys.readouterr().err


def test_doctor_and_info_say_what_is_kept_and_what_is_open(
    tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.choice.doctor.probe_apart", lambda name: None)
    bundle = elsewhere(tmp_path)
    opened = "; the first load() tries cpu and openvino side by side for 2 s"
    assert examine(bundle)["bundle"]["reason"].endswith(opened)
    assert asked == []
    engine = runtime.load(bundle)
    assert examine(bundle)["bundle"]["reason"] == engine.reason
    assert describe_bundle(bundle)["auto"] == engine.reason
    assert main(["info", str(bundle)]) == 0
    assert "openvino: the fastest of cpu, openvino in a trial on this machine" in capsys.readouterr().out


# --- many at once -----------------------------------------------------------------------------------------------------


def test_many_at_once_try_once(tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = elsewhere(tmp_path)
    inside, answer = [], trial.ask_apart

    def slow(*arguments):
        inside.append(1)
        threading.Event().wait(0.3)
        return answer(*arguments)

    monkeypatch.setattr(trial, "ask_apart", slow)
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.append(runtime.load(bundle).provider)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == ["openvino"] * 4
    assert len(inside) == 1


def _hold(folder: str, held, release) -> None:
    with trial._held(Path(folder) / trial._LOCK):
        held.set()
        release.wait(60)


def test_nobody_waits_for_ever(tmp_path: Path, cache: Path, asked: list[dict], monkeypatch) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(trial, "_WAIT", 0.2)
    cache.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(cache), held, release))
    other.start()
    try:
        assert held.wait(60)
        assert runtime.load(elsewhere(tmp_path)).provider == "cpu", "by the records of the other processor"
    finally:
        release.set()
        other.join(60)
    assert asked == []


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "notice"),
    [
        (lambda file: file.write_text("{"), "Expecting property name"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda file: file.write_text("[]"), "its schema version is None"),
        (lambda file: edit_json(file, lambda data: data.update(bundle="0" * 64)), "belongs to another bundle"),
        (lambda file: edit_json(file, lambda data: data["machine"].update(openvino="1")), "other versions of the"),
        (lambda file: edit_json(file, lambda data: data["trials"][0].update(rounds="3")), "should be"),
        (lambda file: edit_json(file, lambda data: data["trials"][0]["milliseconds"].update(cpu=0)), "impossible row"),
        (lambda file: edit_json(file, lambda data: data["trials"][0]["milliseconds"].update(abacus=1)), "impossible"),
        (lambda file: edit_json(file, lambda data: data["trials"][0].update(milliseconds={})), "impossible row"),
    ],
)
def test_a_damaged_file_is_replaced(
    tmp_path: Path, cache: Path, asked: list[dict], caplog, damage: Callable[[Path], None], notice: str
) -> None:
    bundle = elsewhere(tmp_path)
    runtime.load(bundle)
    (file,) = files(cache)
    damage(file)
    assert runtime.load(bundle).provider == "openvino"
    assert notice in caplog.text
    assert len(asked) == 2
    caplog.clear()
    runtime.load(bundle)
    assert len(asked) == 2
    assert caplog.text == ""


def test_the_verdict_of_another_version_does_not_count(
    tmp_path: Path, cache: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = elsewhere(tmp_path)
    runtime.load(bundle)
    machine = tuned.this_machine()
    monkeypatch.setattr(trials, "this_machine", lambda: {**machine, "openvino": "9999.9"})
    runtime.load(bundle)
    assert len(asked) == len(files(cache)) == 2


def test_a_cache_that_cannot_be_written_tries_nothing_and_what_it_holds_counts(
    tmp_path: Path, cache: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = elsewhere(tmp_path)
    runtime.load(bundle)
    assert len(asked) == 1
    monkeypatch.setattr(trial, "cache_folder", lambda kind: None)
    assert runtime.load(bundle).provider == "openvino"
    engine = runtime.load(elsewhere(tmp_path, "c", images=True), parts="image")
    assert "the first of cuda, cpu, openvino" in engine.reason or "of another processor, Another" in engine.reason
    assert len(asked) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path, cache: Path, asked: list[dict]) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    assert runtime.load(elsewhere(tmp_path)).provider == "cpu"
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((None, "it did not answer within 60 seconds"), "it did not answer within 60 seconds"),
        (({"trials": None}, None), "trials should be"),
        (({}, None), "trials should be"),
    ],
)
def test_a_trial_that_fails_costs_time_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, answer: tuple, said: str
) -> None:
    calls = []
    monkeypatch.setattr(trial, "ask_apart", lambda *arguments: calls.append(1) or answer)
    bundle = elsewhere(tmp_path)
    engine = runtime.load(bundle)
    assert engine.provider == "cpu"
    assert "by the times that the bundle has of another processor" in engine.reason
    assert f"they could not be tried: {said}" in engine.reason
    assert f"Engines could not be tried side by side: {said}" in caplog.text
    assert runtime.load(bundle).reason == engine.reason
    assert len(calls) == 1


def test_an_engine_that_cannot_open_it_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: Path, options: object) -> None:
        raise runtime.ProviderError("no such kernel")

    bundle = open_bundle(elsewhere(tmp_path))
    table = {**PROVIDERS, "cpu": replace(PROVIDERS["cpu"], open=fail)}
    monkeypatch.setattr("runtime.choice.trial_process.PROVIDERS", table)
    found = measure(bundle, "text", dict.fromkeys(BOTH, "int8"), 1, 0.1)
    assert set(found.milliseconds) == {"openvino"}
    monkeypatch.setattr(trial, "_measured", lambda *_: [replace(found, threads=THREADS)])
    engine = runtime.load(bundle.root)
    assert engine.provider == "openvino"
    assert "; cpu: text failed)" in engine.reason
    monkeypatch.setattr("runtime.choice.trial_process.PROVIDERS", {"cpu": table["cpu"]})
    assert measure(bundle, "text", {"cpu": "int8"}, 1, 0.1).fault == "cpu: no such kernel"


def test_a_frozen_program_starts_no_other_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart.sys, "frozen", True, raising=False)
    monkeypatch.setattr(apart.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert "no Python interpreter" in str(apart.ask_apart("runtime.engines.probe", ["cpu"], 1)[1])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks into the working folder")
def test_what_lies_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime.py").write_text("raise SystemExit('another runtime')")
    monkeypatch.chdir(tmp_path)
    assert apart.ask_apart("runtime.engines.probe", ["cpu"], 60) == ({"fault": None}, None)


def test_a_flag_is_expected() -> None:
    with pytest.raises(runtime.InputError, match="trial="):
        runtime.load("nowhere", trial="yes")


# --- turns, with times made up ----------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def takes(self, *seconds: float) -> Callable[[], None]:
        """A run that takes so long each time; the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.mark.parametrize(
    ("a", "b", "rounds", "total"),
    [
        ((0.1,), (0.2,), 3, 1.2),  # clear after three rounds
        ((0.1, 0.1, 0.25, 0.1), (0.2,), 5, 1.95),  # once slower than the other: until the time is up
        ((3.0,), (5.0,), 1, 16.0),  # one round there always is
        ((0.001,), (0.001,), 15, 0.032),  # a tie
    ],
)
def test_a_trial_ends_when_it_is_clear_or_the_time_is_up(a: tuple, b: tuple, rounds: int, total: float) -> None:
    clock = Clock()
    taken = take_turns({"a": clock.takes(*a), "b": clock.takes(*b)}, 2.0, clock=lambda: clock.now)
    assert {name: len(times) for name, times in taken.items()} == {"a": rounds, "b": rounds}
    assert clock.now == pytest.approx(total)


def test_a_first_run_counts_for_nothing() -> None:
    clock = Clock()
    taken = take_turns({"a": clock.takes(1.0, 0.1), "b": clock.takes(0.2)}, 2.0, clock=lambda: clock.now)
    assert taken["a"] == pytest.approx([0.1] * len(taken["a"]))


def test_nothing_to_run_is_no_error() -> None:
    assert take_turns({}, 1.0) == {}
