"""Texts that the server was asked for before are answered from the engine's cache, beside the queue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import Models, open_models
from runtime.serve.scheduling.observer import NoObserver
from runtime.serve.settings import EngineOptions
from tests.conftest import System
from tests.runtime.serve.operation.processes import JSON, serving

TEXTS = ["no effusion", "a small left pleural effusion", "clear lungs"]


class Batches(NoObserver):
    """How many texts each batch had."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def batch(self, kind: str, items: int, tokens: int, seconds: float) -> None:
        if kind == "text":
            self.items.append(items)


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def models(tiny: System, batches: Batches) -> Iterator[Models]:
    opening = Opening(EngineOptions("cpu", threads=1), decode_processes=0)
    opened = open_models({"tiny": tiny.bundle}, opening, Limits(), batches)
    batches.items.clear()  # those of warming up
    yield opened
    opened.close()


def test_only_what_is_new_is_queued(models: Models, batches: Batches) -> None:
    async def ask() -> None:
        with models.lease() as model:
            first = await model.embed_texts(Caller(), TEXTS[:2])
            caller = Caller()
            again = await model.embed_texts(caller, [TEXTS[1], TEXTS[0], TEXTS[1]])
            assert again.tobytes() == first[[1, 0, 1]].tobytes()
            assert caller.timings.tokens > 6, "tokens of a request are counted wherever its answer comes from"
            assert sum(batches.items) == 2
            mixed = await model.embed_texts(Caller(), [TEXTS[2], TEXTS[0]])
            assert mixed[1].tobytes() == first[0].tobytes()
            assert sum(batches.items) == 3
            raw = await model.embed_tokens(Caller(), model.engine.text.tokenizer.encode(TEXTS[:1]), normalize=False)
            np.testing.assert_allclose(raw[0] / np.linalg.norm(raw), first[0], atol=1e-5)
            assert sum(batches.items) == 4
            assert model.engine.text.cache.hits == 3

    asyncio.run(ask())


def test_an_answer_that_is_there_comes_in_spite_of_a_deadline(models: Models) -> None:
    async def ask() -> None:
        with models.lease() as model:
            first = await model.embed_texts(Caller(), TEXTS[:1])
            late = await model.embed_texts(Caller(deadline=time.monotonic() - 1), TEXTS[:1])
            assert late.tobytes() == first.tobytes()

    asyncio.run(ask())


def test_hits_are_counted(tiny: System, tmp_path: Path) -> None:
    with serving(tmp_path, str(tiny.bundle), "--text-cache", "2", "--decode-processes", "0") as served:
        computed = served.metric("cxr_tokens_total")
        for text, hits in ((TEXTS[0], 0), (TEXTS[0], 1), (TEXTS[1], 1), (TEXTS[2], 1), (TEXTS[0], 1), (TEXTS[0], 2)):
            assert served.get("/embed", "POST", JSON, json.dumps({"inputs": text}))[0] == 200
            assert served.metric("cxr_text_cache_hits") == hits
        assert served.metric("cxr_tokens_total") > computed
