"""What the text encoder computes, when, and with which session: on an engine that only counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from runtime.engines import Sessions
from runtime.errors import Fault, InputError
from runtime.text import TextEncoder
from runtime.text import windows as module
from runtime.text.bulk import OPENING_TOKENS, BulkRule, even_budget
from tests.runtime.parts import text_part
from tests.runtime.sessions import threads_left

WINDOW = 8


class Tokenizer:
    """A token a character, between two others; texts with "bad" in them cannot be used."""

    pad_token_id, max_length = 0, 512

    def prompt(self, name: None) -> str:
        return ""

    def try_encode(
        self, texts: list[str], *, prompt: str, on_cut: object, on_empty: object
    ) -> tuple[list[list[int]], list[Fault]]:
        faults = [Fault(index, text, "is bad") for index, text in enumerate(texts) if "bad" in text]
        return [[1, *map(ord, text), 2] for text in texts], faults


def embed(text: str) -> list[float]:
    """What the sessions below must find for a text."""
    ids = [1, *map(ord, text), 2]
    return [len(ids), sum(ids), sum(index * token for index, token in enumerate(ids))]


class Session:
    """Computes `embed` from what either graph reads, and remembers every text that it computed."""

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.computed: list[float] = []
        self.fails: Exception | None = None

    def run(self, outputs, inputs):
        assert outputs in (["text_embeds"], ["unnormalized_embeds"])
        if self.fails:
            raise self.fails
        if "attention_mask" in inputs:
            texts = [row[mask == 1] for row, mask in zip(*inputs.values(), strict=True)]
            return [np.array([self._embed(ids, np.arange(len(ids))) for ids in texts], np.float32)]
        found = np.zeros((*inputs["text_positions"].shape, 3), np.float32)
        for row, segments in enumerate(inputs["segment_ids"]):
            for segment in range(1, segments.max() + 1):
                own = segments == segment
                assert inputs["text_positions"][row, segment - 1] == np.argmax(own)
                found[row, segment - 1] = self._embed(inputs["input_ids"][row][own], inputs["position_ids"][row][own])
        return [found]

    def _embed(self, ids, positions) -> list[float]:
        self.computed.append(float(ids.sum()))
        return [len(ids), ids.sum(), (ids * positions).sum()]


class Opened(list):
    """The sessions of one encoder, in the order in which they were opened."""

    def __call__(self, streams: int) -> Session:
        self.append(Session(streams))
        return self[-1]

    @property
    def computed(self) -> int:
        return sum(len(session.computed) for session in self)


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def encoder(request: pytest.FixtureRequest, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> TextEncoder:
    monkeypatch.setattr(module, "_WINDOW", WINDOW)
    return TextEncoder(text_part(embedding_size=3), Sessions(opened, 2), Tokenizer(), request.param, token_budget=512)


def counted(texts: list[str], taken: list[str]) -> Iterator[str]:
    for text in texts:
        taken.append(text)
        yield text


MANY = ["x" * (index % 23) + chr(97 + index % 7) for index in range(61)]


@pytest.mark.parametrize("texts", [MANY[:1], MANY[:5], MANY[:8], MANY[:9], MANY], ids=len)
def test_rows_come_in_order_over_any_number_of_windows(encoder: TextEncoder, texts: list[str]) -> None:
    expected = np.array([embed(text) for text in texts], np.float32)
    assert np.array_equal(encoder.encode(texts), expected)
    assert np.array_equal(np.stack(list(encoder.encode_iter(iter(texts)))), expected)
    assert not threads_left()


def test_equal_texts_are_computed_once(encoder: TextEncoder, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 100)
    texts = ["b", "a", "b", "ccc", "a", "b"]
    found = encoder.encode(texts)
    assert np.array_equal(found, np.array([embed(text) for text in texts], np.float32))
    assert opened.computed == 3


def test_equal_texts_of_different_windows_are_computed_in_each(encoder: TextEncoder, opened: Opened) -> None:
    """Memory stays bounded: nothing is kept of earlier windows."""
    encoder.encode(["a"] * (3 * WINDOW))
    assert opened.computed == 3


def test_a_second_session_is_opened_for_bulk_work_only(encoder: TextEncoder, opened: Opened) -> None:
    assert [session.streams for session in opened] == [1]
    encoder.encode("a")
    encoder.encode(MANY[: WINDOW - 1])
    list(encoder.encode_iter(MANY[: WINDOW - 1]))
    assert [session.streams for session in opened] == [1]
    encoder.encode(MANY)
    encoder.encode(MANY)
    assert [session.streams for session in opened] == [1, 2], "opened once"
    assert len(opened[1].computed) >= 2 * len(set(MANY)), "and all of it computed there"
    before = len(opened[1].computed)
    encoder.encode("a")
    assert len(opened[1].computed) == before, "single calls stay where they are answered soonest"


def test_few_texts_of_many_tokens_are_bulk_work_too(encoder: TextEncoder, opened: Opened) -> None:
    """A batch of 512 tokens for each of two streams, once enough of that has come to pay for another session."""
    batch, two_batches = ["y" * 400, "z" * 98], ["x" * 400, "y" * 400, "z" * 218]
    for _ in range(2 * OPENING_TOKENS // 500):
        encoder.encode(batch)
    for _ in range(OPENING_TOKENS // 1024 - 1):
        encoder.encode(two_batches)
    assert len(opened) == 1
    encoder.encode(two_batches)
    assert [session.streams for session in opened] == [1, 2]
    assert len(opened[1].computed) == 3, "this call"
    encoder.encode(two_batches)
    encoder.encode(batch)
    assert len(opened[1].computed) == 6, "and the next of the kind, no other"


def test_a_single_call_of_many_tokens_opens_the_second_session(encoder: TextEncoder, opened: Opened) -> None:
    encoder.encode([chr(97 + index % 26) * (510 - index // 26) for index in range(WINDOW - 1)] * 2)
    assert len(opened) == 2


@pytest.mark.parametrize("streams", [2, 16, 64])
def test_there_is_half_a_batch_for_each_stream(streams: int) -> None:
    rule = BulkRule()
    assert rule.applies([64] * (10 * 8 * streams), streams, 512)
    assert rule.applies([64] * (4 * streams), streams, 512)
    assert not rule.applies([64] * (4 * streams - 1), streams, 512)
    assert not rule.applies([], streams, 512)


def test_one_long_text_is_no_work_for_several_streams() -> None:
    rule = BulkRule()
    assert rule.applies([510] * 100, 2, 512)
    assert not rule.applies([512], 2, 512)
    assert not rule.applies([400, 150, 150], 2, 512), "one stream would wait for the other"
    assert rule.applies([350, 150, 200], 2, 512)
    assert rule.applies([512, 256, 256], 2, 512)
    assert rule.applies([1024], 2, 512), "as many tokens as two batches have"


@pytest.mark.parametrize(
    ("tokens", "streams", "budget"),
    [(512, 2, 256), (700, 2, 350), (1024, 2, 512), (1100, 2, 550), (1200, 2, 300), (8192, 16, 512), (9000, 16, 563)],
)
def test_each_stream_gets_as_much(tokens: int, streams: int, budget: int) -> None:
    assert even_budget(tokens, streams, 512) == budget


def test_a_batch_for_two_streams_is_halved(encoder: TextEncoder, opened: Opened) -> None:
    texts = [letter * 126 for letter in "abcd"]
    for _ in range(OPENING_TOKENS // 512):
        encoder.encode(texts)
    calls: list[int] = []
    run = opened[1].run
    opened[1].run = lambda outputs, inputs: calls.append(inputs["input_ids"].size) or run(outputs, inputs)
    encoder.encode(texts)
    assert calls == [256, 256]


def test_the_largest_batches_of_a_window_come_first(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams would wait for the last one if it came to the largest at the end."""
    monkeypatch.setattr(module, "_WINDOW", 100)
    sizes: list[int] = []
    run = Session.run

    def counted(self: Session, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(inputs["input_ids"].size)
        return run(self, outputs, inputs)

    monkeypatch.setattr(Session, "run", counted)
    encoder.encode([chr(97 + index) * (5 + 19 * index) for index in range(20)])
    assert len(set(sizes)) > 2
    assert sizes == sorted(sizes, reverse=True)


def test_bad_texts_of_all_windows_are_listed_and_nothing_after_the_first_is_computed(
    encoder: TextEncoder, opened: Opened
) -> None:
    texts = [f"{index}" for index in range(5 * WINDOW)]
    texts[2 * WINDOW + 1], texts[4 * WINDOW] = "bad one", "bad other"
    with pytest.raises(InputError, match="2 of 40 texts cannot be used") as caught:
        encoder.encode(texts)
    assert [fault.index for fault in caught.value.faults] == [2 * WINDOW + 1, 4 * WINDOW]
    assert [fault.name for fault in caught.value.faults] == ["bad one", "bad other"]
    assert opened.computed == 2 * WINDOW
    assert not threads_left()


def test_bad_texts_in_the_first_window_cost_nothing(encoder: TextEncoder, opened: Opened) -> None:
    with pytest.raises(InputError):
        encoder.encode(["bad", *MANY])
    assert opened.computed == 0
    assert len(opened) == 1, "no session for bulk work was opened"


def test_nothing_is_taken_before_the_first_is_asked_for_and_little_ahead(encoder: TextEncoder) -> None:
    taken: list[str] = []
    texts = [f"{index}" for index in range(100 * WINDOW)]
    found = encoder.encode_iter(counted(texts, taken))
    assert taken == []
    assert next(found).tolist() == embed("0")
    # The window that is consumed, and one for each batch that waits or is computed.
    assert len(taken) <= WINDOW * 6
    found.close()
    assert not threads_left()


def test_on_fault_is_told_of_each_and_the_others_are_computed(encoder: TextEncoder, opened: Opened) -> None:
    texts = list(MANY)
    bad = (0, WINDOW - 1, WINDOW, 3 * WINDOW + 2)
    for index in bad:
        texts[index] = f"bad {index}"
    faults: list[Fault] = []
    found = list(encoder.encode_iter(texts, on_fault=faults.append))
    assert tuple(fault.index for fault in faults) == bad
    assert tuple(index for index, each in enumerate(found) if each is None) == bad
    for text, each in zip(texts, found, strict=True):
        assert each is None or each.tolist() == embed(text)


def test_a_window_of_bad_texts_alone(encoder: TextEncoder) -> None:
    texts = ["a", *["bad"] * (3 * WINDOW), "b"]
    found = list(encoder.encode_iter(texts, on_fault=lambda fault: None))
    assert [index for index, each in enumerate(found) if each is not None] == [0, 3 * WINDOW + 1]
    assert list(encoder.encode_iter(["bad"], on_fault=lambda fault: None)) == [None]


def test_without_on_fault_what_came_before_is_yielded(encoder: TextEncoder) -> None:
    texts = [*MANY[: 2 * WINDOW + 3], "bad", *MANY]
    found = encoder.encode_iter(texts)
    for text in MANY[: 2 * WINDOW]:
        assert next(found).tolist() == embed(text)
    with pytest.raises(InputError) as caught:
        next(found)
    assert [fault.index for fault in caught.value.faults] == [2 * WINDOW + 3]
    assert not threads_left()


def test_an_empty_iterable_yields_nothing_and_an_empty_list_is_an_error(encoder: TextEncoder) -> None:
    assert list(encoder.encode_iter([])) == []
    with pytest.raises(InputError, match="empty"):
        encoder.encode([])


@pytest.mark.parametrize("number", [1, 5, 61])
def test_what_the_session_raises_comes_through(encoder: TextEncoder, opened: Opened, number: int) -> None:
    encoder.encode(MANY)  # so that both sessions are there
    for session in opened:
        session.fails = MemoryError("no room")
    for call in (encoder.encode, lambda texts: list(encoder.encode_iter(texts))):
        with pytest.raises(MemoryError, match="no room"):
            call(MANY[:number])
    assert not threads_left()
    for session in opened:
        session.fails = None
    assert encoder.encode("a")[0].tolist() == embed("a"), "and the next call works"


def test_an_interrupted_consumer_leaves_no_threads(encoder: TextEncoder) -> None:
    def consume() -> None:
        for number, _ in enumerate(encoder.encode_iter(MANY)):
            if number == WINDOW + 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not threads_left()


def test_what_the_callers_iterable_raises_comes_through(encoder: TextEncoder) -> None:
    def torn() -> Iterator[str]:
        yield from MANY
        raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        encoder.encode(torn())
    with pytest.raises(OSError, match="torn"):
        list(encoder.encode_iter(torn()))
    assert not threads_left()


def test_a_kept_embedding_does_not_keep_its_window(encoder: TextEncoder) -> None:
    kept = next(encoder.encode_iter(MANY))
    assert kept.base is None
