"""Which engine "auto" takes: what was tuned, what the bundle recorded, or a fixed order; and what is left aside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import open_bundle
from runtime.choice import tuned
from runtime.choice.decision import decide
from runtime.choice.doctor import examine, print_report
from runtime.choice.tuned import Row, new_tuning, read_tuning, write_tuning
from runtime.engines import PROVIDERS, default_threads, providers
from tests.conftest import edit_json
from tests.runtime.handmade import artifact, fp32, record, write_bundle

pytestmark = pytest.mark.skipif(PROVIDERS["openvino"].missing() is not None, reason="compares two engines")
BOTH = ("cpu", "openvino")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CXR_ENGINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tune"


def row(part: str, provider: str, precision: str, rate: float, **changes: object) -> Row:
    plain = Row(part, provider, precision, default_threads(), 1, 64, rate, 1000 / rate, 3)
    return replace(plain, **changes)


def text_of(*times: tuple[str, float], processor: str | None = None) -> list:
    """fp32, slow, and int8 with a time for each engine."""
    slow = [record(name, 1.0, 1000, "fp32", processor) for name, _ in times]
    return [fp32(*slow), artifact("int8", BOTH, *(record(n, 0.999, ms, "int8", processor) for n, ms in times))]


def tuned_bundle(tmp_path: Path, *rows: Row, goal: str = "throughput") -> Path:
    texts = text_of(("cpu", 1), ("openvino", 2))
    images = [fp32(), artifact("int8", BOTH, *(record(name, 0.999, 5, "int8") for name in BOTH))]
    bundle = write_bundle(tmp_path / "b", texts, images)
    if rows:
        opened = open_bundle(bundle)
        write_tuning(opened, new_tuning(opened, goal, rows))
    return bundle


# --- without a tuned choice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpu", "openvino", "expected"), [(5, 9, "cpu"), (9, 5, "openvino")])
def test_the_faster_on_record_is_taken(tmp_path: Path, caplog, cpu: float, openvino: float, expected: str) -> None:
    bundle = write_bundle(tmp_path / "b", text_of(("cpu", cpu), ("openvino", openvino)))
    with caplog.at_level(logging.INFO, "runtime"):
        engine = runtime.load(bundle)
    assert engine.provider == expected
    assert engine.reason == (
        f"{expected}: the fastest of cpu, openvino by the times that the bundle has of this processor "
        "(text int8 5.0 ms a batch)"
    )
    assert engine.reason in caplog.text


def test_the_parts_decide_together(tmp_path: Path) -> None:
    images = [artifact("fp32", BOTH, record("cpu", 1.0, 10, "fp32"), record("openvino", 1.0, 30, "fp32"))]
    bundle = write_bundle(tmp_path / "b", text_of(("cpu", 10), ("openvino", 5)), images)
    assert runtime.load(bundle).provider == "cpu", "10 × 10 against 5 × 30"
    assert runtime.load(bundle, parts=["text"]).provider == "openvino"


@pytest.mark.parametrize(("cpu", "openvino", "expected"), [(5, 9, "cpu"), (9, 5, "openvino")])
def test_the_faster_on_another_processor_is_taken_where_there_are_no_times_of_this_one(
    tmp_path: Path, cpu: float, openvino: float, expected: str
) -> None:
    bundle = write_bundle(tmp_path / "b", text_of(("cpu", cpu), ("openvino", openvino), processor="Another"))
    engine = runtime.load(bundle, trial=False)
    assert engine.provider == expected
    assert engine.reason == (
        f"{expected}: the fastest of cpu, openvino by the times that the bundle has of another processor, Another "
        "(text int8 5.0 ms a batch)"
    )


def test_times_of_this_processor_go_before_those_of_another(tmp_path: Path) -> None:
    texts = text_of(("cpu", 5), ("openvino", 9))
    elsewhere = text_of(("cpu", 9), ("openvino", 5), processor="Another")
    both = [
        replace(here, fidelity=(*here.fidelity, *there.fidelity)) for here, there in zip(texts, elsewhere, strict=True)
    ]
    engine = runtime.load(write_bundle(tmp_path / "b", both))
    assert engine.provider == "cpu"
    assert "of this processor" in engine.reason


MISSING = text_of(("openvino", 5))
OF_TWO_PROCESSORS = [
    replace(here, fidelity=(*here.fidelity, *there.fidelity))
    for here, there in zip(text_of(("cpu", 9)), text_of(("openvino", 5), processor="Another"), strict=True)
]


@pytest.mark.parametrize("texts", [MISSING, OF_TWO_PROCESSORS], ids=["missing", "of two processors"])
def test_times_that_are_missing_or_of_different_processors_decide_nothing(tmp_path: Path, texts: list) -> None:
    engine = runtime.load(write_bundle(tmp_path / "b", texts), trial=False)
    assert engine.provider == "cpu"
    assert engine.reason.startswith("cpu: the first of cuda, cpu, openvino that can run it; it was not tuned here")


def test_a_gpu_that_works_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = replace(PROVIDERS["cuda"], missing=lambda: None, processor=lambda: "NVIDIA L4")
    monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "cuda": gpu})
    bundle = open_bundle(write_bundle(tmp_path / "b", text_of(("cpu", 9), ("openvino", 5))))
    plans, failures = decide(bundle, ["text"], "auto", {}, 0.99, 2, None)
    assert [plan.provider.name for plan in plans] == ["cuda", "openvino", "cpu"]
    assert plans[0].reason == "cuda: a GPU goes before processors"
    assert plans[1].reason == "openvino: the next that can run it"
    assert failures == {}


def test_an_engine_that_cannot_open_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: Path, options: object) -> None:
        raise runtime.ProviderError("no such kernel")

    bundle = write_bundle(tmp_path / "b", text_of(("cpu", 9), ("openvino", 5)))
    table = {**PROVIDERS, "openvino": replace(PROVIDERS["openvino"], open=fail)}
    monkeypatch.setattr(providers, "PROVIDERS", table)
    engine = runtime.load(bundle)
    assert engine.provider == "cpu"
    assert engine.reason == "cpu: the next that can run it; openvino could not open it"


# --- with a tuned choice ----------------------------------------------------------------------------------------------

ROWS = (
    row("text", "cpu", "int8", 100),
    row("text", "openvino", "fp32", 50, batch=128),
    row("text", "openvino", "int8", 80, batch=256),
    row("text", "openvino", "int8", 60, batch=1024),
    row("image", "cpu", "fp32", 10),
    row("image", "openvino", "int8", 20, batch=8),
)


def test_auto_takes_the_largest_product_of_the_rates(tmp_path: Path) -> None:
    engine = runtime.load(tuned_bundle(tmp_path, *ROWS))
    assert engine.provider == "openvino", "80 × 20 against 100 × 10"
    assert engine.precision == {"text": "int8", "image": "int8"}
    assert (engine.text.batches.token_budget, engine.image.batch) == (256, 8)
    assert engine.reason == (
        "openvino: the fastest of cpu, openvino as tuned on this machine for throughput "
        "(text int8 80.0 texts/s, image int8 20.0 images/s)"
    )
    assert "80.0 texts/s, the fastest of 2 precisions tuned there" in engine.choices["text"].reason


def test_a_named_provider_or_precision_takes_its_best_row(tmp_path: Path) -> None:
    bundle = tuned_bundle(tmp_path, *ROWS)
    engine = runtime.load(bundle, provider="cpu")
    assert engine.precision == {"text": "int8", "image": "fp32"}
    assert engine.text.batches.token_budget == 64
    engine = runtime.load(bundle, precision={"text": "fp32"})
    assert (engine.provider, engine.precision["text"], engine.text.batches.token_budget) == ("openvino", "fp32", 128)
    engine = runtime.load(bundle, parts=["text"])
    assert engine.provider == "cpu", "100 against 80"


def test_a_part_that_was_not_tuned_leaves_auto_to_the_records(tmp_path: Path) -> None:
    engine = runtime.load(tuned_bundle(tmp_path, *ROWS[:4]))
    assert "by the times that the bundle has" in engine.reason
    assert engine.text.batches.token_budget == 64, "what was tuned of the text still holds on its engine"


def test_min_fidelity_holds_for_what_was_tuned(tmp_path: Path) -> None:
    bundle = tuned_bundle(tmp_path, *ROWS, row("image", "openvino", "fp32", 1))
    assert runtime.load(bundle, provider="openvino", min_fidelity=0.9995).precision == dict.fromkeys(
        ("text", "image"), "fp32"
    )


def test_other_threads_take_neither_streams_nor_batch(tmp_path: Path) -> None:
    other = default_threads() + 1
    rows = [replace(each, threads=other, streams=other) for each in ROWS]
    engine = runtime.load(tuned_bundle(tmp_path, *rows))
    assert engine.provider == "openvino"
    assert engine.text.batches.token_budget == 512
    assert engine.text.batches.sessions.streams == default_threads()
    assert runtime.load(tmp_path / "b", threads=other).text.batches.sessions.streams == other
    assert runtime.load(tmp_path / "b", threads=other).text.batches.token_budget == 256


def test_doctor_shows_what_load_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.choice.doctor.probe_apart", lambda name: None)
    bundle = tuned_bundle(tmp_path, *ROWS)
    report = examine(bundle)
    engine = runtime.load(bundle)
    assert report["bundle"]["reason"] == engine.reason
    assert [step["provider"] for step in report["auto"] if step["taken"]] == ["openvino"]
    assert report["bundle"]["choices"][0].endswith("; streams=1, batch=256 as tuned")
    print_report(report)
    shown = " ".join(capsys.readouterr().out.split())
    assert "auto takes openvino, the fastest of cpu, openvino as tuned on this machine" in shown
    assert "cpu can run, but openvino comes first" in shown


# --- what is left aside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "notice"),
    [
        (lambda file: file.write_text("{"), "Expecting property name"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "UTF-8"),
        (lambda file: file.write_text("[" * 100_000), "is not used"),
        (lambda file: file.write_text("[]"), "its schema version is None"),
        (lambda file: edit_json(file, lambda data: data.update(schema_version=99)), "its schema version is 99"),
        (lambda file: edit_json(file, lambda data: data.update(bundle="0" * 64)), "belongs to another bundle"),
        (lambda file: edit_json(file, lambda data: data["machine"].update(processor="Z80")), "to another machine"),
        (lambda file: edit_json(file, lambda data: data["machine"].update(openvino="1")), "other versions of the"),
        (lambda file: edit_json(file, lambda data: data.update(goal="fun")), "its goal is 'fun'"),
        (lambda file: edit_json(file, lambda data: data["rows"][0].update(rate=float("nan"))), "an impossible row"),
        (lambda file: edit_json(file, lambda data: data["rows"][0].update(streams=0)), "an impossible row"),
        (lambda file: edit_json(file, lambda data: data["rows"][0].pop("rate")), "lacks ['rate']"),
    ],
)
def test_a_file_that_is_damaged_or_stale_is_left_aside_with_a_notice(
    tmp_path: Path, cache: Path, caplog, damage: Callable[[Path], None], notice: str
) -> None:
    bundle = tuned_bundle(tmp_path, *ROWS)
    (file,) = cache.iterdir()
    damage(file)
    engine = runtime.load(bundle)
    assert "by the times that the bundle has" in engine.reason
    assert notice in caplog.text
    assert "python -m runtime tune" in caplog.text


def test_new_versions_and_other_machines_have_files_of_their_own(
    tmp_path: Path, cache: Path, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tuned_bundle(tmp_path, *ROWS)
    machine = tuned.this_machine()
    monkeypatch.setattr(tuned, "this_machine", lambda: {**machine, "openvino": "9999.9"})
    with caplog.at_level(logging.INFO, "runtime"):
        assert read_tuning(open_bundle(bundle)) is None
    assert "was tuned on another machine, or with other versions of the engines: not used" in caplog.text
    opened = open_bundle(bundle)
    write_tuning(opened, new_tuning(opened, "throughput", ROWS[:1]))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(tuned, "this_machine", lambda: machine)
    found = read_tuning(opened)
    assert found is not None
    assert found.rows == ROWS


def test_another_bundle_is_another_file_and_fidelity_measured_anew_is_not(tmp_path: Path) -> None:
    bundle = tuned_bundle(tmp_path, *ROWS)
    edit_json(bundle / "manifest.json", lambda data: data["text"]["artifacts"][1]["fidelity"][0].update(items=7))
    assert read_tuning(open_bundle(bundle)) is not None
    other = write_bundle(tmp_path / "other", text_of(("cpu", 1), ("openvino", 2)))
    assert read_tuning(open_bundle(other)) is None


def test_unknown_engines_and_precisions_in_the_file_do_no_harm(tmp_path: Path) -> None:
    rows = (row("text", "abacus", "int8", 1e9), row("text", "cpu", "int2", 1e9), row("image", "cpu", "int2", 1e9))
    assert runtime.load(tuned_bundle(tmp_path, *rows)).precision["text"] == "int8"


def test_loading_creates_no_cache_folder(tmp_path: Path, cache: Path) -> None:
    runtime.load(tuned_bundle(tmp_path))
    assert not cache.exists()


def test_share_reaches_the_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    opened = PROVIDERS["cpu"].open
    spy = replace(PROVIDERS["cpu"], open=lambda model, options: seen.append(options) or opened(model, options))
    monkeypatch.setattr(providers, "PROVIDERS", {**PROVIDERS, "cpu": spy})
    bundle = write_bundle(tmp_path / "b", [fp32()])
    out = tmp_path / "out.npy"
    for share in ([], ["--share"]):
        arguments = ["embed", str(bundle), "--text", "no edema", "--provider", "cpu", "--out", str(out), *share]
        assert main(arguments) == 0
    assert [options.share for options in seen] == [False, True]


def test_threads_that_call_streams_are_pinned_where_they_compute_themselves(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", [fp32()])
    opened = {
        (name, share): runtime.load(bundle, name, threads=2, share=share).text.batches.sessions.pinned
        for name in BOTH
        for share in (False, True)
    }
    assert [each for each, pinned in opened.items() if pinned] == [("cpu", False)], "OpenVINO pins its own threads"
    assert not runtime.load(bundle, "cpu", threads=1).text.batches.sessions.pinned
