"""What a bundle behind the scheduler answers, against the engine itself; and how bundles are replaced."""

from __future__ import annotations

import asyncio
import io
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.engine import Engine
from runtime.errors import BundleError, InputError
from runtime.serve.caller import Caller
from runtime.serve.limits import Limits
from runtime.serve.models.model import Model
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import Models, open_models
from runtime.serve.request_errors import RequestError
from runtime.serve.settings import EngineOptions
from tests.conftest import System

TEXTS = ["no effusion", "there is a small left pleural effusion", "clear lungs", "no effusion", "a" * 40]


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(chest_phantom(150 + 10 * seed, 130)).save(stream, "PNG")
    return stream.getvalue()


FILMS = [png(seed) for seed in range(3)]


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def models(tiny: System, request: pytest.FixtureRequest) -> Iterator[Models]:
    opened = open_models({"tiny": tiny.bundle}, opening(request.param), Limits())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def engine(tiny: System, models: Models) -> Engine:
    with models.lease() as model:
        return runtime.load(tiny.bundle, provider=model.engine.provider, threads=1)


def opening(provider: str = "cpu", text_cache: int = 0) -> Opening:
    return Opening(EngineOptions(provider, threads=1, text_cache=text_cache), decode_processes=0)


def ask(models: Models, what: Callable[[Model], Awaitable[Any]], name: str | None = None) -> Any:
    async def asked() -> Any:
        with models.lease(name) as model:
            return await what(model)

    return asyncio.run(asked())


def test_answers_are_the_engines(models: Models, engine: Engine) -> None:
    close = {"rtol": 0, "atol": 1e-5}
    for normalize in (True, False):
        found = ask(models, lambda model, normalize=normalize: model.embed_texts(Caller(), TEXTS, normalize=normalize))
        np.testing.assert_allclose(found, engine.text.encode(TEXTS, normalize=normalize), **close)
    rows = engine.text.tokenizer.encode(TEXTS)
    found = ask(models, lambda model: model.embed_tokens(Caller(), rows))
    np.testing.assert_allclose(found, engine.text.encode(TEXTS), **close)
    assert np.abs(found[1] - engine.text.encode(TEXTS)[2]).max() > 1e-3, "others are far enough to be told from it"
    np.testing.assert_allclose(
        ask(models, lambda model: model.embed_images(Caller(), FILMS)), engine.image.encode(FILMS), **close
    )
    assert ask(models, lambda model: model.similarity(Caller(), FILMS[0], TEXTS)) == pytest.approx(
        engine.similarity(FILMS[0], TEXTS), abs=1e-5
    )
    assert ask(models, lambda model: model.text_similarity(Caller(), TEXTS[0], TEXTS[1:])) == pytest.approx(
        [float(cosine) for cosine in engine.text.similarity([TEXTS[0]] * 4, TEXTS[1:])], abs=1e-5
    )
    for found, expected in zip(
        ask(models, lambda model: model.classify(Caller(), FILMS, "pneumonia")),
        engine.classify(FILMS, "pneumonia"),
        strict=True,
    ):
        assert found == pytest.approx(expected, abs=1e-5)
    grounded = ask(models, lambda model: model.ground(Caller(), FILMS[1], TEXTS[:2]))
    for found, expected in zip(grounded, engine.ground_phrases(FILMS[1], TEXTS[:2]), strict=True):
        np.testing.assert_allclose(found.enlarged().similarity_map, expected.similarity_map, **close)
        assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert ask(models, lambda model: model.picture(Caller(), FILMS[2])).size == Image.open(io.BytesIO(FILMS[2])).size


def test_masks_are_filled_as_by_the_engine(models: Models, engine: Engine) -> None:
    texts = ["a [MASK] effusion", "no [MASK] or [MASK]", "[MASK]"]
    for targets in (None, ["left", "effusion"]):
        found = ask(models, lambda model, targets=targets: model.fill_mask(Caller(), texts, 3, targets))
        for answer, text in zip(found, texts, strict=True):
            expected = engine.text.fill_mask(text, 3, targets)
            by_mask = ([each] if isinstance(each[0], dict) else each for each in (answer, expected))
            for words, others in zip(*by_mask, strict=True):
                assert [word["token"] for word in words] == [word["token"] for word in others]
                assert [word["score"] for word in words] == pytest.approx([word["score"] for word in others], abs=1e-5)


def test_callers_at_once_get_their_own_answers(models: Models, engine: Engine) -> None:
    """Of every kind, side by side, each compared."""
    texts = [f"{number} small nodules in the {side} lung" for number in range(20) for side in ("left", "right")]
    embeds, films = engine.text.encode(texts), engine.image.encode(FILMS)

    async def all_of_them() -> None:
        with models.lease() as model:
            asked: list[Awaitable[Any]] = []
            expected: list[Any] = []
            for number, text in enumerate(texts):
                asked += [model.embed_texts(Caller(), [text]), model.embed_images(Caller(), [FILMS[number % 3]])]
                expected += [embeds[number : number + 1], films[number % 3][None]]
            for found, wanted in zip(await asyncio.gather(*asked), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)

    asyncio.run(all_of_them())


def test_timings_are_added_up(models: Models) -> None:
    caller = Caller()
    ask(models, lambda model: model.embed_texts(caller, TEXTS))
    timings = caller.timings
    assert timings.characters == sum(map(len, TEXTS))
    assert timings.tokens > len(TEXTS) * 2
    assert min(timings.tokenization, timings.inference) > 0
    assert 0 <= timings.queue < 5


def test_what_cannot_be_used_is_refused(models: Models) -> None:
    limits = Limits()
    many = ["x"] * (limits.texts + 1)
    for texts, kind in (([], "Empty"), (many, "Validation"), (["x", "y" * (limits.characters + 1)], "Validation")):
        with pytest.raises(RequestError) as caught:
            ask(models, lambda model, texts=texts: model.embed_texts(Caller(), texts))
        assert caught.value.kind == kind
    assert [item.index for item in caught.value.items] == [1]
    with pytest.raises(InputError) as faulty:
        ask(models, lambda model: model.embed_texts(Caller(), ["fine", "[CLS] no", "long " * 600]))
    assert [fault.index for fault in faulty.value.faults] == [1, 2]
    with pytest.raises(InputError) as faulty:
        ask(models, lambda model: model.embed_images(Caller(), [FILMS[0], b"no picture"]))
    assert [fault.index for fault in faulty.value.faults] == [1]
    for rows in ([[]], [[10**6]], [[True]], [[5] * 600]):
        with pytest.raises(RequestError) as caught:
            ask(models, lambda model, rows=rows: model.embed_tokens(Caller(), rows))
        assert caught.value.kind == "Validation"
    with pytest.raises(RequestError) as caught:
        ask(models, lambda model: model.embed_texts(Caller(), ["x"]), "unknown")
    assert caught.value.kind == "NotFound"
    for late in (
        lambda model: model.embed_texts(Caller(deadline=time.monotonic() - 1), ["x"]),
        lambda model: model.classify(Caller(deadline=time.monotonic() - 1), FILMS, "pneumonia"),
    ):
        with pytest.raises(RequestError) as caught:
            ask(models, late)
        assert caught.value.kind == "Timeout"


def test_long_texts_are_cut_when_asked(models: Models, engine: Engine) -> None:
    words = [f"word{number % 7}" for number in range(600)]
    text = " ".join(words)
    tokens = engine.text.tokenizer.try_encode([text])[0][0]
    longest = engine.text.tokenizer.max_length
    heads = [tokens[: longest - 1] + tokens[-1:], tokens[:1] + tokens[-(longest - 1) :]]
    for from_left, row in zip((False, True), heads, strict=True):
        found = ask(
            models,
            lambda model, from_left=from_left: model.embed_texts(Caller(), [text], truncate=True, from_left=from_left),
        )
        np.testing.assert_allclose(found, engine.text.encode_tokens([row]), rtol=0, atol=1e-5)


def test_a_bundle_is_replaced_while_requests_run(tiny: System, tmp_path: Path) -> None:
    """Each request is answered by one of the two, and what began with the old one ends with it."""
    link = tmp_path / "current"
    shutil.copytree(tiny.bundle, tmp_path / "one")
    link.symlink_to("one")
    opened = open_models({"m": link}, opening(), Limits())
    try:

        async def requests() -> None:
            assert await opened.reload() == {"m": "unchanged"}
            with opened.lease() as old:
                before = await old.embed_texts(Caller(), TEXTS)
                shutil.copytree(tiny.bundle, tmp_path / "two")
                text = (tmp_path / "two" / "manifest.json").read_text()
                (tmp_path / "two" / "manifest.json").write_text(text + "\n")
                (tmp_path / "next").symlink_to("two")
                (tmp_path / "next").replace(link)
                going_on = asyncio.ensure_future(_until(opened, reloaded := asyncio.Event()))
                assert await opened.reload() == {"m": "reloaded"}
                reloaded.set()
                assert await going_on > 0
                with opened.lease() as new:
                    assert new is not old
                np.testing.assert_array_equal(await old.embed_texts(Caller(), TEXTS), before)
            # A bundle that cannot be opened leaves the one that is there.
            (tmp_path / "two" / "manifest.json").write_text("{")
            answer = await opened.reload()
            assert answer["m"].startswith("not reloaded (BundleError)")
            with opened.lease() as still:
                assert still is new
                await still.embed_texts(Caller(), TEXTS)

        asyncio.run(requests())
    finally:
        opened.close()


async def _until(opened: Models, event: asyncio.Event) -> int:
    answered = 0
    while not event.is_set():
        with opened.lease() as model:
            assert (await model.embed_texts(Caller(), TEXTS)).shape[0] == len(TEXTS)
        answered += 1
    return answered


def test_draining_waits_for_what_was_accepted(tiny: System) -> None:
    opened = open_models({"m": tiny.bundle}, opening(), Limits())

    async def stop() -> None:
        assert opened.ready() == (True, "ready")
        with opened.lease() as model:
            assert not await opened.drain(0.05)
            assert opened.ready() == (False, "draining")
            await model.embed_texts(Caller(), TEXTS)
        assert await opened.drain(5)

    asyncio.run(stop())
    assert opened.alive() == (True, "alive")
    opened.close()
    with pytest.raises(RequestError, match="loaded"):
        ask(opened, lambda model: model.embed_texts(Caller(), TEXTS))


def test_a_bundle_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle"):
        open_models({"m": tmp_path}, opening(), Limits())


def test_fast_decoding_is_as_in_the_engine(tiny: System) -> None:
    stream = io.BytesIO()
    Image.fromarray(chest_phantom(1300, 1100)).save(stream, "JPEG")
    picture = stream.getvalue()
    opened = open_models({"m": tiny.bundle}, Opening(EngineOptions("cpu", threads=1, fast_decode=True)), Limits())
    try:
        found = ask(opened, lambda model: model.embed_images(Caller(), [picture]))
    finally:
        opened.close()
    fast, exact = (
        runtime.load(tiny.bundle, provider="cpu", threads=1, fast_decode=fast).image.encode(picture)
        for fast in (True, False)
    )
    np.testing.assert_allclose(found, fast, rtol=0, atol=1e-6)
    assert np.abs(found - exact).max() > 1e-5


def test_a_server_may_cut_where_nobody_says(tiny: System) -> None:
    long = "word " * 600
    opened = open_models(
        {"m": tiny.bundle}, Opening(EngineOptions("cpu", threads=1), auto_truncate=True, decode_processes=0), Limits()
    )
    try:
        unsaid, asked = (
            ask(opened, lambda model, cut=cut: model.embed_texts(Caller(), [long], truncate=cut))
            for cut in (None, True)
        )
        np.testing.assert_allclose(unsaid, asked, rtol=0, atol=1e-6)
        assert ask(opened, lambda model: model.text_similarity(Caller(), long, [long])) == pytest.approx([1], abs=1e-5)
        with pytest.raises(InputError):
            ask(opened, lambda model: model.embed_texts(Caller(), [long], truncate=False))
    finally:
        opened.close()
