"""Fill-mask on trained weights: the words are the right ones, and those of transformers' pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM, FillMaskPipeline

import runtime
from runtime.engines import PROVIDERS
from tests.oracle import reference_tokenizer
from tests.trained.conftest import Trained
from tests.trained.sentences import MASKED_KINDS, masked_reports
from tests.trained.wordings import FINDINGS

pytestmark = pytest.mark.slow

REPORTS = masked_reports(6)
TEXTS = [report.text for report in REPORTS]
TOP_K = 5


@pytest.fixture(scope="module")
def pytorch(trained: Trained) -> FillMaskPipeline:
    """transformers' own pipeline and model, with the checkpoint's weights."""
    model = BertForMaskedLM(trained.text.model.config).eval()
    left = model.load_state_dict(trained.text.model.state_dict(), strict=False)
    assert not left.missing_keys
    assert all(name.startswith("cls_projection_head.") for name in left.unexpected_keys)
    return FillMaskPipeline(model=model, tokenizer=reference_tokenizer(trained.checkpoint))


@pytest.fixture(scope="module")
def expected(pytorch: FillMaskPipeline) -> list[list[dict[str, Any]]]:
    return pytorch(TEXTS, top_k=TOP_K)


def accuracies(answers: list[list[Any]]) -> dict[str, float]:
    """Share of the masked words that come first, kind by kind."""
    hits = {kind: [] for kind in MASKED_KINDS}
    for report, answer in zip(REPORTS, answers, strict=True):
        hits[report.kind].append(answer[0]["token_str"] == report.word)
    return {kind: float(np.mean(each)) for kind, each in hits.items()}


def test_the_model_understands_what_is_missing(pytorch: FillMaskPipeline, expected: list[list[dict[str, Any]]]) -> None:
    reached = accuracies(expected)
    assert min(reached.values()) >= 0.95, reached
    # Negative control: without the sentence that tells the word, every second side is wrong.
    alone = pytorch([text.partition(". ")[2] for text in TEXTS], top_k=TOP_K)
    reached = accuracies(alone)
    assert max(reached["side"], reached["level"]) <= 0.6, reached
    assert reached["finding"] <= 0.4, reached


def test_fp32_gives_the_words_of_transformers(
    engines: Mapping[str, runtime.Engine], expected: list[list[dict[str, Any]]]
) -> None:
    found = engines["fp32"].text.fill_mask(TEXTS, top_k=TOP_K)
    for ours, theirs in zip(found, expected, strict=True):
        assert [each["token"] for each in ours] == [each["token"] for each in theirs]
        assert [each["sequence"] for each in ours] == [each["sequence"] for each in theirs]
        assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], abs=1e-5)
    assert accuracies(found) == accuracies(expected)


def test_int8_gives_the_right_words_as_often(
    engines: Mapping[str, runtime.Engine], expected: list[list[dict[str, Any]]]
) -> None:
    answers = engines["int8"].text.fill_mask(TEXTS, top_k=TOP_K)
    found, wanted = accuracies(answers), accuracies(expected)
    assert max(abs(found[kind] - wanted[kind]) for kind in MASKED_KINDS) <= 0.01, (found, wanted)
    scores = [[answer[0]["score"] for answer in each] for each in (answers, expected)]
    assert not np.allclose(*scores, atol=1e-5), "int8 was not run"


def test_targets_ask_which_finding_it_is(engines: Mapping[str, runtime.Engine], pytorch: FillMaskPipeline) -> None:
    reports = [report for report in REPORTS if report.kind == "finding"]
    texts, words = [report.text for report in reports], [report.word for report in reports]
    wanted = [each[0]["token_str"] for each in pytorch(texts, targets=list(FINDINGS), top_k=1)]
    assert np.mean(np.array(wanted) == words) >= 0.95
    found = {
        precision: [each[0]["token_str"] for each in engine.text.fill_mask(texts, top_k=1, targets=FINDINGS)]
        for precision, engine in engines.items()
    }
    assert found["fp32"] == wanted
    assert np.mean(np.array(found["int8"]) == words) == pytest.approx(np.mean(np.array(wanted) == words), abs=0.01)


@pytest.fixture(scope="module")
def whole_captions(trained: Trained) -> tuple[list[str], int, int]:
    """Captions, how many tokens they have, and how many of these PyTorch puts first when they alone are masked."""
    captions = sorted({case.caption for case in trained.cases})
    tokenizer = reference_tokenizer(trained.checkpoint)
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    rows, columns = (~torch.isin(tokens.input_ids, torch.tensor(tokenizer.all_special_ids))).nonzero(as_tuple=True)
    masked = tokens.input_ids[rows]
    masked[torch.arange(len(rows)), columns] = tokenizer.mask_token_id
    with torch.no_grad():
        logits = trained.text.logits(masked, tokens.attention_mask[rows])[torch.arange(len(rows)), columns]
    return captions, len(rows), int((logits.argmax(1) == tokens.input_ids[rows, columns]).sum())


@pytest.mark.parametrize("provider", [name for name in ("cpu", "openvino") if PROVIDERS[name].missing() is None])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.0), ("int8", 0.01)])
def test_masked_words_are_found_as_by_pytorch(
    trained: Trained, whole_captions: tuple[list[str], int, int], provider: str, precision: str, tolerance: float
) -> None:
    """Every word in turn: most follow from the others or from the language; which side it is does not."""
    text = runtime.load(trained.bundle, provider=provider, precision=precision, parts=["text"]).text
    lobes = text.fill_mask("There is a nodule in the left [MASK] lobe.", top_k=2)
    assert {each["token_str"] for each in lobes} == {"upper", "lower"}
    (clear,) = text.fill_mask("The lungs are [MASK].", top_k=1)
    assert (clear["token_str"], clear["sequence"]) == ("clear", "the lungs are clear.")
    captions, masked, correct = whole_captions
    found = text.masked_token_accuracy(captions, one_at_a_time=True)
    assert found.masked == masked
    assert abs(found.correct - correct) <= tolerance * masked, (found, correct)
    assert 0.5 <= correct / masked < 0.95
