"""`python -m runtime info`, and what `embed` says of its precision."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import MANIFEST_NAME, open_bundle
from runtime.bundle.artifacts import LeftOut, Recipe, Trial
from runtime.bundle.manifest import CalibrationSet
from tests.conftest import System, edit_json
from tests.runtime.handmade import ALL, artifact, record, write_bundle


def test_info(tiny: System, tiny_copy: Path, capsys) -> None:
    assert main(["info", str(tiny.bundle)]) == 0
    printed = capsys.readouterr().out
    for part in ("RANDOM WEIGHTS, seed 7", "sha256 verified", "up to 512 tokens", "crop 96", "max_abs", "cpu"):
        assert part in printed
    assert main(["info", str(tiny.bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["providers"]["cpu"] is None
    (tiny_copy / "text/tokenizer.json").write_text("{}")
    assert main(["info", str(tiny_copy)]) == 1
    assert "not complete" in capsys.readouterr().err


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """A bundle made by hand with figures of every kind."""

    def trial(recipe: str, mean_cosine: float, milliseconds: float, accepted: bool, **figures: float) -> Trial:
        return Trial(recipe, "openvino", {"mean_cosine": mean_cosine, **figures}, milliseconds, accepted)

    recipe = Recipe(
        "SmoothQuant 0.85, with a name so long that a table has no room for all of it",
        "99",
        {"alpha": "0.85"},
        (
            trial("plain", 0.91, 50.0, False, neighbour_agreement=0.5),
            trial("SmoothQuant 0.85, with a name so long that a table has no room for all of it", 0.9991, 64.2, True),
            trial("beaten", 0.99, 70.0, False),
            trial("broken", float("nan"), 65.0, False),
            trial("all in fp32", 0.9999, 200.0, False),
        ),
    )
    figures = {"neighbour_agreement": 0.985, "worst_cosine": 0.98341, "retrieval_at_1": 1.0, "retrieval_at_5": 0.99}
    int8 = artifact(
        "int8",
        ("cpu", "openvino"),
        record("cpu", 0.9991, 64.2, "int8", **figures),
        record("openvino", 0.9992, 30.0, "int8", "Another Processor", **figures),
        recipe=recipe,
    )
    exact = artifact("fp32", ALL, record("cpu", 1.0, 230, "fp32"), record("openvino", 0.99998, 120, "bf16"))
    calibration = CalibrationSet("file", "reports.csv", 3, 512, "0" * 64, 300, "1" * 64, 7)
    return write_bundle(tmp_path / "quantized", [exact, int8], [artifact()], {"text": calibration})


def test_embed_says_in_what_it_computes_and_how_faithful_that_is(quantized: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "o.npy")
    arguments = ["embed", str(quantized), "--provider", "cpu", "--text", "clear lungs", "--out", out]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == "cpu, text int8 (mean cosine 0.9991 on 300 held-out texts)\n"
    assert "[cpu, int8]" in captured.out
    assert main([*arguments, "--min-fidelity", "0.9995"]) == 0
    assert capsys.readouterr().err == "cpu, text fp32 (mean cosine 1.0000 on 300 held-out texts)\n"
    assert main([*arguments, "--precision", "int4"]) == 1
    assert "no text artifact in precision 'int4'; it has: fp32 (cpu, " in capsys.readouterr().err
    assert main([*arguments, "--precision", "bf16"]) == 1
    assert "'cpu' does not compute in bf16 here" in capsys.readouterr().err
    assert main([*arguments, "--min-fidelity", "99"]) == 1
    assert "from 0 to 1 is expected" in capsys.readouterr().err


def test_info_shows_what_was_measured_and_what_would_run(quantized: Path, capsys) -> None:
    assert main(["info", str(quantized)]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip() for line in printed.splitlines()]
    assert max(map(len, printed.splitlines()[1:])) <= 120
    assert "calibrated with 512 texts of file 'reports.csv', judged by 300 others (seed 3, 7 skipped)" in lines
    assert "int8         text/onnx/model_int8.onnx, opset 18, for cpu, openvino" in lines
    assert "fidelity on openvino in bf16: mean_cosine 0.99998 on 300 held-out texts, 120.0 ms a batch" in lines
    assert "measured on Another Processor; recompute with: python -m export verify BUNDLE" in lines
    assert printed.count("measured on ") == 1, "what was measured on this processor needs no remark"
    table = lines[lines.index(next(line for line in lines if line.startswith("tried on openvino"))) :][:5]
    assert [line.split()[0] for line in table] == ["tried", "plain", "SmoothQuant", "all", "and"]
    assert table[1].split()[1:] == ["0.9100", "0.5", "50.0"]
    assert table[2].split()[-4:] == ["0.9991", "–", "64.2", "accepted"]
    assert table[4] == "and 2 more, each beaten in both"
    assert "cpu          text int8 (mean cosine 0.9991 on 300 held-out texts), image fp32" in lines


def test_info_says_what_the_options_would_give(quantized: Path, capsys) -> None:
    assert main(["info", str(quantized), "--min-fidelity", "0.9999", "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["choices"]["cpu"]["text"]["precision"] == "fp32"
    assert description["choices"]["cpu"]["text"]["file"] == "text/onnx/model_fp32.onnx"
    assert description["choices"]["cpu"]["image"]["mean_cosine"] is None
    assert main(["info", str(quantized), "--precision", "int8"]) == 0
    printed = capsys.readouterr().out
    assert "engines here, with precision int8\n" in printed
    assert "has no image artifact in precision 'int8'" in " ".join(printed.split())


def test_what_was_left_out_is_shown_and_named_where_it_is_asked_for(quantized: Path, capsys) -> None:
    trial = Trial("plain", "cpu", {"mean_cosine": 0.91}, 50.0, False, "below the tier")
    failed = Trial("dearer", "", {}, 0.0, False, "ProviderError: out of memory")
    left = LeftOut(
        part="image",
        precision="int8",
        file="image/onnx/model_int8.onnx",
        providers=("cpu", "openvino"),
        tier="99",
        cause="fidelity",
        reason="none of 2 recipes tried holds tier 99",
        required={"mean_cosine": 0.99},
        best={"mean_cosine": 0.91},
        trials=(trial, failed),
    )
    edit_json(quantized / MANIFEST_NAME, lambda data: data.update(left_out=[asdict(left)]))
    assert open_bundle(quantized).manifest.left_out == (left,)
    assert main(["info", str(quantized)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = lines.index("int8         left out: image/onnx/model_int8.onnx for cpu, openvino, tier 99")
    assert lines[start + 1 : start + 4] == [
        "none of 2 recipes tried holds tier 99",
        "required: mean_cosine 0.99",
        "the nearest: mean_cosine 0.9100",
    ]
    assert lines[start + 4].startswith("tried on cpu")
    assert lines[start + 5].split() == ["plain", "0.9100", "–", "50.0"]
    with pytest.raises(
        runtime.BundleError, match=r"in precision 'int8'.* The export left it out: none of 2 recipes"
    ) as error:
        runtime.load(quantized, provider="cpu", precision={"image": "int8"})
    assert "Make one with" not in str(error.value), "that was tried"
    with pytest.raises(runtime.BundleError, match="Make one with"):
        runtime.load(quantized, provider="cpu", precision={"text": "int8-dynamic"})


def test_a_manifest_of_before_says_nothing_of_what_was_left_out(quantized: Path) -> None:
    def older(data: dict) -> None:
        del data["left_out"]
        for entry in data["text"]["artifacts"]:
            for trial in (entry["recipe"] or {"trials": []})["trials"]:
                del trial["verdict"]

    edit_json(quantized / MANIFEST_NAME, older)
    manifest = open_bundle(quantized).manifest
    assert manifest.left_out == ()
    assert {trial.verdict for each in manifest.text.artifacts if each.recipe for trial in each.recipe.trials} == {""}
    assert main(["info", str(quantized)]) == 0
