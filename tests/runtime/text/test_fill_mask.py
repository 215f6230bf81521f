"""Words for masks, against transformers' own pipeline and the reference package on the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.engines import PROVIDERS
from runtime.errors import BundleError, InputError
from runtime.text.likeliest import best_of, scores_of
from tests.conftest import System, edit_json, tiny_config, tiny_family
from tests.runtime.older import as_schema_3

HERE = [name for name, provider in PROVIDERS.items() if provider.packs and provider.missing() is None]
ONE, TWO = "Small [MASK] pleural effusion.", "[MASK] opacity in the [MASK] lung!"


def pipeline(checkpoint: Path) -> Any:
    """transformers' fill-mask pipeline on the checkpoint's files."""
    from transformers import FillMaskPipeline

    from tests.oracle import reference_text_model, reference_tokenizer

    return FillMaskPipeline(model=reference_text_model(checkpoint), tokenizer=reference_tokenizer(checkpoint))


@pytest.fixture(scope="module")
def oracle(tiny_checkpoint: Path) -> Any:
    return pipeline(tiny_checkpoint)


@pytest.fixture(scope="module", params=HERE)
def engine(request: pytest.FixtureRequest, tiny: System) -> runtime.Engine:
    return runtime.load(tiny.bundle, provider=request.param, precision="fp32", parts=["text"])


def same(found: Any, expected: Any) -> None:
    """The same nesting, words, order and sequences; scores within 1e-5."""
    if isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    assert found.keys() == expected.keys()
    assert abs(found["score"] - expected["score"]) <= 1e-5
    assert {key: found[key] for key in ("token", "token_str", "sequence")} == {
        key: expected[key] for key in ("token", "token_str", "sequence")
    }


@pytest.mark.parametrize(
    "texts", [ONE, TWO, [ONE], [TWO], [ONE, TWO], [TWO, "Clear [MASK]", ONE]], ids=["1", "2", "[1]", "[2]", "12", "213"]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_k": 1000},
        {"targets": "left"},
        {"targets": ["left", "right", "clear", "left"], "top_k": 3},
        {"targets": ["left", "right"], "top_k": 7},
        {"targets": ["Clear", "righty", "##s", "☃", "[PAD]", "[MASK]", " "], "top_k": 50},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_as_transformers_pipeline(engine: runtime.Engine, oracle: Any, texts: Any, options: dict[str, Any]) -> None:
    same(engine.text.fill_mask(texts, **options), oracle(texts, **options))


def test_the_last_full_stop_counts(engine: runtime.Engine) -> None:
    """Unlike for embeddings, where the reference strips it."""
    with_stop, without = (engine.text.fill_mask(text)[0]["score"] for text in (ONE, ONE.rstrip(".")))
    assert with_stop != without


@pytest.mark.parametrize("size", [3, 100, 128, 1000, 30522])
@pytest.mark.parametrize("ties", [False, True])
def test_the_best_are_those_of_a_full_sort(size: int, ties: bool) -> None:
    logits = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    if ties:
        logits = np.round(logits)
    order = np.argsort(-logits, kind="stable")
    for count in {1, 2, 5, size // 100 + 1, size // 128 + 1, size}:
        assert np.array_equal(best_of(logits, min(count, size)), order[:count])
    probabilities = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    assert np.abs(scores_of(logits, order[:3]) - probabilities[order[:3]]).max() <= 1e-7


@pytest.mark.slow
def test_the_real_vocabulary(shared_data: Path, tmp_path: Path) -> None:
    from export.build import export_bundle
    from export.checkpoints.random_checkpoint import write_random_checkpoint

    family = tiny_family("cxr-bert-specialized")
    config = {**tiny_config(), "vocab_size": 30522, "num_hidden_layers": 2}
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", family, 3, config)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(shared_data / "tokenizer" / name, checkpoint / name)
    export_bundle(family, str(checkpoint), tmp_path / "bundle")
    oracle, texts = (
        pipeline(checkpoint),
        ["Left pleural effusion with adjacent [MASK].", "Heart size [MASK] and [MASK]"],
    )
    engine = runtime.load(tmp_path / "bundle")
    same(engine.text.fill_mask(texts, top_k=20), oracle(texts, top_k=20))
    targets = ["atelectasis", "Pneumothorax", "gastrojejunostomies", "no", "##osis"]
    same(engine.text.fill_mask(texts, targets=targets), oracle(texts, targets=targets))


def many_texts(count: int) -> list[str]:
    words = ["no", "small", "left", "right", "pleural", "effusion", "clear", "lungs", "opacity", "1"]
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(count):
        chosen = [words[index] for index in rng.integers(0, len(words), rng.integers(1, 40))]
        for _ in range(rng.integers(1, 4)):
            chosen.insert(int(rng.integers(0, len(chosen) + 1)), "[MASK]")
        texts.append(" ".join(chosen))
    return texts


def test_many_texts_keep_their_order(engine: runtime.Engine) -> None:
    """Also as bulk work, on several streams."""
    texts = many_texts(400)
    together = engine.text.fill_mask(texts, top_k=2)
    assert len(together) == 400
    for index in range(0, 400, 9):
        same(together[index], engine.text.fill_mask(texts[index], top_k=2))
    same(engine.text.fill_mask(texts[::-1], top_k=2)[::-1], together)


def test_the_longest_text_is_filled_a_longer_one_refused(engine: runtime.Engine, oracle: Any) -> None:
    longest = "1 " * 509 + "[MASK]"
    same(engine.text.fill_mask(longest), oracle(longest))
    with pytest.raises(InputError, match="513 tokens, but the model reads at most 512"):
        engine.text.fill_mask("1 " + longest)


def test_a_word_outside_the_vocabulary_is_said(engine: runtime.Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.text.fill_mask(ONE, targets=["left", "lefty", " "])
    assert [record.getMessage() for record in caplog.records] == [
        "The target 'lefty' is no token of the vocabulary; its first piece 'left' is taken instead.",
        "The target ' ' is no token of the vocabulary and has none; it is left out.",
    ]
    caplog.clear()
    engine.text.fill_mask(ONE, targets=["left"])
    assert not caplog.records


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("No mask", {}, r"'No mask': has no \[MASK\]\. Write"),
        (
            ["No mask", ONE, "1 " * 600 + "[MASK]", 3, "[MASK] [SEP]"],
            {},
            r"(?s)4 of 5 .*\[0\] 'No mask': has no.*\[2\].*603 tokens.*\[3\].*int came.*\[4\].*special token \[SEP\]",
        ),
        ([], {}, "list of texts is empty"),
        (7, {}, "A int came where texts are expected"),
        (ONE, {"top_k": 0}, "top_k=0; a whole number of at least 1"),
        (ONE, {"top_k": 2.5}, "top_k=2.5; a whole number"),
        (ONE, {"top_k": True}, "top_k=True; a whole number"),
        (ONE, {"top_k": 1001}, "top_k=1001; the vocabulary has 1000 tokens"),
        (ONE, {"targets": []}, r"None of the targets \[\] has a token"),
        (ONE, {"targets": ["", "  "]}, r"None of the targets \['', '  '\] has a token"),
        (ONE, {"targets": ["left", None, 3]}, r"(?s)2 of 3 targets.*None: a NoneType.*3: a int came"),
    ],
)
def test_bad_input(engine: runtime.Engine, texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.text.fill_mask(texts, **options)


def test_predict_masked_tokens_as_the_reference(engine: runtime.Engine, tiny_checkpoint: Path) -> None:
    from tests.oracle import reference_text_engine

    reference = reference_text_engine(tiny_checkpoint)
    for prompts in (ONE, TWO, [ONE, "No mask at all.", TWO, "[MASK]!?."], many_texts(20)):
        assert engine.text.predict_masked_tokens(prompts) == reference.predict_masked_tokens(prompts)
    with pytest.raises(InputError, match=r"special token \[SEP\]"):
        engine.text.predict_masked_tokens([ONE, "[SEP] [MASK]"])


@pytest.mark.parametrize("name", ["fill_mask.onnx", "fill_mask.onnx_data"])
def test_the_graph_is_opened_and_verified_when_it_is_needed(tiny_copy: Path, name: str) -> None:
    file = tiny_copy / "text/onnx" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    text = runtime.load(tiny_copy, provider="cpu", parts=["text"]).text
    assert text.encode("No effusion").shape == (1, 128)
    with pytest.raises(InputError):  # nothing is opened for what cannot be used
        text.fill_mask("no mask")
    for _ in range(2):
        with pytest.raises(BundleError, match=rf"{name} was changed after the export"):
            text.fill_mask(ONE)


def test_a_bundle_of_before_says_how_to_export_again(tiny_copy: Path) -> None:
    def as_before(manifest: dict[str, Any]) -> None:
        as_schema_3(manifest)
        manifest["schema_version"] = 2
        text = manifest["text"]
        del text["embedding"]
        text["artifacts"] = [each for each in text["artifacts"] if each["role"] != "fill_mask"]
        for name in ("fill_mask.onnx", "fill_mask.onnx_data"):
            del manifest["files"][f"text/onnx/{name}"]
            (tiny_copy / "text/onnx" / name).unlink()

    edit_json(tiny_copy / "manifest.json", as_before)
    text = runtime.load(tiny_copy).text
    assert text.encode("No effusion").shape == (1, 128)
    with pytest.raises(BundleError, match=r"exported before .*python -m export biovil --checkpoint SOURCE --out DIR"):
        text.fill_mask(ONE)


def test_a_precision_without_such_a_graph_is_named(tiny_copy: Path) -> None:
    def for_openvino_alone(manifest: dict[str, Any]) -> None:
        for each in manifest["text"]["artifacts"]:
            if each["role"] == "fill_mask":
                each["providers"] = ["openvino"]

    edit_json(tiny_copy / "manifest.json", for_openvino_alone)
    with pytest.raises(BundleError, match=r"no graph that fills masks for 'cpu' in fp32; it has: fp32 \(openvino\)"):
        runtime.load(tiny_copy, provider="cpu").text.fill_mask(ONE)
