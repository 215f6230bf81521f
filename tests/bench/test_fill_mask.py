"""`python -m bench fill-mask`: what its contestants compute, and what it refuses to time."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fill_mask import fill_mask, masked_texts
from bench.mask_peers import MASK_PEERS, TOP
from bench.workloads import Engine
from runtime.tokenization import Tokenizer
from tests.conftest import System


def test_a_text_has_sixty_four_tokens_and_one_mask(tiny: System) -> None:
    tokenizer = Tokenizer(tiny.bundle / "text", 512)
    texts = masked_texts(tokenizer, 8)
    assert len(set(texts)) == 8
    for row in tokenizer.encode(texts):
        assert (len(row), row.count(tokenizer.mask_token_id)) == (64, 1)


def test_all_contestants_give_the_same_words(tiny: System) -> None:
    workload = fill_mask(Engine(tiny.bundle, tiny.checkpoint, "cpu", "fp32"), 3)
    every_token, ours, *_ = workload.contestants
    answers = [MASK_PEERS[each.spec["peer"]]({**each.spec, "threads": 1})() for each in workload.contestants]
    assert all(answer.shape == (3, 2 * TOP) for answer in answers)
    for each, answer in zip(workload.contestants[1:], answers[1:], strict=True):
        assert each.check is not None
        assert each.check(answer, answers[0]) is None
    assert every_token.check is None, "it is the first"
    assert "in another order" in ours.check(answers[1][:, ::-1], answers[0])
    shifted = answers[1] + np.repeat([0, 2e-5], TOP)
    assert "a score differs from the first's by 2e-05" in ours.check(shifted, answers[0])
    assert "nan" in ours.check(answers[1] * np.repeat([1, np.nan], TOP), answers[0])


def test_the_decoder_runs_on_every_token(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the comparison would be one of equals."""
    from runtime.onnxruntime_session import OnnxRuntimeSession

    asked = []
    run = OnnxRuntimeSession.run

    def counting(self, outputs, inputs):
        asked.append(inputs["mask_positions"].shape)
        return run(self, outputs, inputs)

    monkeypatch.setattr(OnnxRuntimeSession, "run", counting)
    workload = fill_mask(Engine(tiny.bundle, tiny.checkpoint, "cpu", "fp32"), 8)
    for each in workload.contestants[:2]:
        MASK_PEERS[each.spec["peer"]]({**each.spec, "threads": 1})()
    everywhere, *masks = (rows * places for rows, places in asked)
    assert everywhere == 512
    assert set(masks) == {8}
