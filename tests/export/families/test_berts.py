"""BERTs that are not CXR-BERT: each from its hub's layout to embeddings and words that upstream gives as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import runtime
from export.build import CalibrationSources, export_bundle
from export.errors import CheckpointError, GateError
from export.families import FAMILIES, Family
from export.precision import Lowering
from export.proof.text_parity import text_parity
from export.reference import TextReference
from export.samples import SENTENCES
from runtime.__main__ import main as run_runtime
from runtime.bundle import FILL_MASK, Manifest, open_bundle
from runtime.engines import PROVIDERS, SessionOptions
from runtime.errors import BundleError, InputError
from runtime.text import Tokenizer
from tests.conftest import edit_json
from tests.export.families.berts import (
    SIZE,
    write_biomedbert,
    write_clinicalbert,
    write_pipeline,
    write_plain_bert,
)

TEXTS = [*SENTENCES[:12], "No Pneumothorax!", "", "left " * 30 + "end."]
MASKED = ["The [MASK] is enlarged.", "Small [MASK] pleural [MASK]."]
EVERY = Lowering(("fp32", "bf16", "fp16", "int8", "int8-dynamic"), enforced=False)
SMALL = CalibrationSources(texts=32, texts_held_out=16)

WRITERS: dict[str, Callable[[Path], Path]] = {
    "biomedbert-abstract": write_biomedbert,
    "biomedbert-fulltext": write_biomedbert,
    "bio-clinicalbert": write_clinicalbert,
    "bert": write_plain_bert,
}


def upstream(checkpoint: Path, texts: list[str], pooling: str, **casing: bool) -> Iterator[NDArray[np.float32]]:
    """transformers' own classes, found by AutoModel and AutoTokenizer, a text at a time; unit norm."""
    from transformers import AutoModel, AutoTokenizer

    config = json.loads((checkpoint / "config.json").read_text())
    assert config["model_type"] == "bert"
    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint), **casing)
    model = AutoModel.from_pretrained(str(checkpoint)).eval()
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        pooled = states[0] if pooling == "cls" else states.mean(dim=0)
        yield torch.nn.functional.normalize(pooled, dim=-1).numpy()


def with_pooling(name: str, pooling: str) -> Family:
    return replace(FAMILIES[name], text=replace(FAMILIES[name].text, pooling=pooling))


@pytest.fixture(scope="module", params=WRITERS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path, Manifest]:
    """Name, checkpoint, bundle in every precision, manifest."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    checkpoint = WRITERS[name](folder / "checkpoint")
    lowering = EVERY if name == "bio-clinicalbert" else Lowering()
    manifest = export_bundle(FAMILIES[name], str(checkpoint), folder / "bundle", lowering=lowering, calibration=SMALL)
    return name, checkpoint, folder / "bundle", manifest


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_embeddings_are_upstreams(exported, provider: str) -> None:
    _, checkpoint, bundle, manifest = exported
    assert (manifest.text.pooling, manifest.text.projection) == ("mean", "none")
    found = runtime.load(bundle, provider=provider, precision="fp32").text.encode(TEXTS)
    assert found.shape == (len(TEXTS), SIZE)
    expected = np.stack(list(upstream(checkpoint, TEXTS, "mean")))
    assert np.abs(found - expected).max() <= 1e-5
    # Punctuation is the models' own business: unlike hi-ml-multimodal's prompts, nothing is dropped.
    assert np.abs(found[0] - next(upstream(checkpoint, [TEXTS[0].rstrip(".!?")], "mean"))).max() > 1e-3


@pytest.mark.slow
def test_words_are_those_of_the_pipeline(exported) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer, FillMaskPipeline

    name, checkpoint, bundle, manifest = exported
    text = runtime.load(bundle, provider="cpu", precision="fp32").text
    assert manifest.text.masked_words is (name != "bert")
    if name == "bert":
        with pytest.raises(BundleError, match="has no head that fills masks"):
            text.fill_mask(MASKED[0])
        return
    model = AutoModelForMaskedLM.from_pretrained(str(checkpoint)).eval()
    pipeline = FillMaskPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(str(checkpoint)))
    for masked in MASKED:
        found, expected = (
            np.ravel(np.array(each, dtype=object)) for each in (text.fill_mask(masked), pipeline(masked))
        )
        for left, right in zip(found, expected, strict=True):
            assert (left["token"], left["token_str"]) == (right["token"], right["token_str"])
            assert abs(left["score"] - right["score"]) <= 1e-5


@pytest.mark.slow
def test_every_precision_of_bio_clinicalbert(tmp_path: Path, exported) -> None:
    name, checkpoint, bundle, manifest = exported
    if name != "bio-clinicalbert":
        pytest.skip("one of the systems is exported in every precision")
    precisions = {artifact.precision for artifact in manifest.text.artifacts}
    assert precisions == {"fp32", "bf16", "fp16", "int8", "int8-dynamic"}
    assert any(artifact.role == FILL_MASK and artifact.precision == "int8" for artifact in manifest.text.artifacts)
    expected = np.stack(list(upstream(checkpoint, TEXTS, "mean")))
    for provider, precision in (("cpu", "int8"), ("openvino", "int8"), ("openvino", "int8-dynamic")):
        found = runtime.load(bundle, provider=provider, precision=precision).text.encode(TEXTS)
        assert (found * expected).sum(axis=1).min() > 0.98, (provider, precision)


@pytest.mark.slow
def test_quality_masked_agrees_with_pytorch(exported, tmp_path: Path, capsys) -> None:
    from bench.__main__ import main as run_bench

    _, checkpoint, bundle, manifest = exported
    if not manifest.text.masked_words:
        pytest.skip("it has no head for masked words")
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(text for text in SENTENCES[:20]) + "\n")
    asked = ["quality", "masked", str(bundle), "--data", str(data), "--provider", "cpu", "--precision", "fp32"]
    assert run_bench([*asked, "--checkpoint", str(checkpoint), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert len(results) == 2
    first, second = results.values()
    assert first == second
    assert first["masked"] > 20


@pytest.mark.slow
def test_the_first_token_instead(tmp_path: Path) -> None:
    checkpoint = write_biomedbert(tmp_path / "checkpoint")
    manifest = export_bundle(with_pooling("biomedbert-abstract", "cls"), str(checkpoint), tmp_path / "bundle")
    assert manifest.text.pooling == "cls"
    found = runtime.load(tmp_path / "bundle", provider="cpu").text.encode(TEXTS)
    assert np.abs(found - np.stack(list(upstream(checkpoint, TEXTS, "cls")))).max() <= 1e-5
    assert np.abs(found - np.stack(list(upstream(checkpoint, TEXTS, "mean")))).max() > 1e-3


@pytest.mark.slow
def test_a_cased_vocabulary_is_lower_cased_as_upstream_does_and_says_so(tmp_path: Path, monkeypatch) -> None:
    """Bio_ClinicalBERT's folder says nothing of casing, so transformers lower-cases; it was trained on cased notes."""
    from export.progress import Steps

    notes: list[str] = []
    checkpoint = write_clinicalbert(tmp_path / "checkpoint")
    steps = Steps()
    monkeypatch.setattr(steps, "note", notes.append)
    family = FAMILIES["bio-clinicalbert"]
    export_bundle(family, str(checkpoint), tmp_path / "as-published", steps=steps)
    assert any("tokens of the vocabulary have capital letters" in note for note in notes)
    published = runtime.load(tmp_path / "as-published", provider="cpu").text
    assert np.abs(published.encode("Left") - published.encode("left")).max() == 0

    cased = replace(family, text=replace(family.text, lowercase=False))
    export_bundle(cased, str(checkpoint), tmp_path / "cased")
    text = runtime.load(tmp_path / "cased", provider="cpu").text
    found = text.encode(TEXTS)
    expected = np.stack(list(upstream(checkpoint, TEXTS, "mean", do_lower_case=False)))
    assert np.abs(found - expected).max() <= 1e-5
    assert np.abs(text.encode("Left") - text.encode("left")).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pooling", "dense", "prompts", "default"),
    [
        ("mean", None, {}, None),
        ("cls", 32, {}, None),
        ("mean", None, {"query": "find: ", "passage": "note: "}, "passage"),
    ],
)
def test_a_folder_of_sentence_transformers(
    tmp_path: Path, pooling: str, dense: int | None, prompts: dict[str, str], default: str | None, caplog
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_pipeline(tmp_path / "st", pooling, dense, prompts, default)
    manifest = export_bundle(FAMILIES["bert"], str(folder), tmp_path / "bundle")
    part = manifest.text
    assert (part.pooling, part.projection) == (pooling, "linear" if dense else "none")
    assert (part.tokenization.max_length, part.tokenization.too_long) == (24, "cut")
    assert part.embedding_size == (dense or SIZE)

    text = runtime.load(tmp_path / "bundle", provider="cpu").text
    oracle = SentenceTransformer(str(folder), device="cpu")
    for name in (None, *prompts):
        expected = oracle.encode(TEXTS, prompt_name=name, normalize_embeddings=True)
        caplog.clear()
        assert np.abs(text.encode(TEXTS, prompt_name=name) - expected).max() <= 1e-5
    assert text.notices.counts() == {"more than 24 tokens, cut there as the system does": 1}
    with pytest.raises(InputError, match="no prompt 'other'"):
        text.encode(TEXTS, prompt_name="other")
    if prompts:
        assert np.abs(text.encode(TEXTS) - text.encode(TEXTS, prompt_name="query")).max() > 1e-3


@pytest.mark.slow
def test_what_is_cut_is_said_and_counted(tmp_path: Path, capsys, caplog) -> None:
    folder = write_pipeline(tmp_path / "st")
    export_bundle(FAMILIES["bert"], str(folder), tmp_path / "bundle")
    lines = ["short", *(f"left pleural effusion {number} " * 12 for number in range(12))]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    caplog.clear()
    asked = ["embed", str(tmp_path / "bundle"), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "out.npy")]
    assert run_runtime([*asked, "--provider", "cpu"]) == 0
    assert "12 texts in all: more than 24 tokens, cut there as the system does" in capsys.readouterr().err
    assert "what is beyond 24 is cut" in caplog.text
    assert "effusion" not in caplog.text, "notes of patients are no matter for logs"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "asks for the pooling max; one of cls, mean"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "asks for the pooling cls and mean"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "'x' is none of its prompts"),
        ("sentence_bert_config.json", {"max_seq_length": "24"}, "max_seq_length='24'"),
        ("config.json", {"model_type": "mpnet"}, "type 'mpnet'"),
    ],
)
def test_folders_that_ask_for_more(tmp_path: Path, file: str, change: dict, message: str) -> None:
    folder = write_pipeline(tmp_path / "st")
    edit_json(folder / file, lambda data: data.update(change))
    with pytest.raises(CheckpointError, match=message):
        export_bundle(FAMILIES["bert"], str(folder), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_folder_knows_its_pooling(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "st", "mean")
    with pytest.raises(CheckpointError, match=r"trained with the pooling 'mean'.*Leave --pooling out"):
        export_bundle(with_pooling("bert", "cls"), str(folder), tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="python -m export bert"):
        export_bundle(FAMILIES["cxr-bert-specialized"], str(folder), tmp_path / "bundle")


@pytest.mark.slow
def test_a_perturbed_weight_misses_the_gate(tmp_path: Path) -> None:
    """The negative control of the parity above."""
    from transformers import BertModel

    checkpoint = write_plain_bert(tmp_path / "checkpoint")
    export_bundle(FAMILIES["bert"], str(checkpoint), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    session = PROVIDERS["cpu"].open(bundle.path("text/onnx/model.onnx"), SessionOptions(threads=1, precision="fp32"))
    model = BertModel.from_pretrained(str(checkpoint))
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight[3, 5] += 0.05
    from export.proof import check_gates

    with pytest.raises(GateError, match="max_abs"):
        check_gates("text fp32", [text_parity(session, "cpu", "fp32", TextReference(model, "mean"), tokenizer)])


@pytest.mark.slow
def test_prompts_on_the_command_line(tmp_path: Path, capsys) -> None:
    """Passages indexed with one prompt are searched with another, as sentence-transformers would score them."""
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "find: ", "passage": "note: "}
    folder = write_pipeline(tmp_path / "st", prompts=prompts)
    bundle, index = str(tmp_path / "bundle"), str(tmp_path / "index")
    export_bundle(FAMILIES["bert"], str(folder), Path(bundle))
    texts = [argument for text in SENTENCES[:6] for argument in ("--text", text)]
    engine = ["--provider", "cpu", "--precision", "fp32"]
    assert run_runtime(["index", *texts, "--prompt-name", "passage", "--out", index, *engine, bundle]) == 0
    capsys.readouterr()
    asked = ["search", *engine, "--json", "--prompt-name", "query", "--text", SENTENCES[7], bundle, index]
    assert run_runtime(asked) == 0
    hits = json.loads(capsys.readouterr().out)["queries"][0]["hits"]
    oracle = SentenceTransformer(str(folder), device="cpu")
    passages = oracle.encode(list(SENTENCES[:6]), prompt_name="passage", normalize_embeddings=True)
    query = oracle.encode([SENTENCES[7]], prompt_name="query", normalize_embeddings=True)
    expected = sorted((passages @ query[0]).tolist(), reverse=True)
    assert np.abs(np.array([hit["score"] for hit in hits]) - expected).max() <= 1e-5

    out = ["--out", str(tmp_path / "parts/")]
    assert run_runtime(["embed", *texts, "--prompt-name", "other", *out, *engine, bundle]) == 1
    assert "no prompt 'other'; it has: document, passage, query" in capsys.readouterr().err
    assert not (tmp_path / "parts").exists()
