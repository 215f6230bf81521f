"""Texts → embeddings, words for masks, or token ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import open_bundle
from runtime.errors import Fault, InputError
from runtime.text.tokenization import TOKENIZER_FILES, Tokenizer
from runtime.triton.items import Item, Outcome, json_tensor, stack, text_of, with_faults
from runtime.triton.settings import Settings

__all__ = ["EmbedTexts", "FillMasks", "TokenizeTexts"]

# Triton joins requests of one shape only, so lengths are rounded up to multiples of this.
_GRID = 32
_TOP_K = 5


class EmbedTexts:
    """TEXT → EMBEDDING float32 (D,), unit L2 norm: texts of all requests share rows, as in `TextEncoder.encode`."""

    noun, inputs, outputs = "texts", ("TEXT",), ("EMBEDDING",)

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_characters
        self._text = settings.load("text").text

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        given = [text_of(item, "TEXT", self._most) for item in items]
        faults: list[Fault] = []
        texts = [each for each in given if isinstance(each, str)]
        found = list(self._text.encode_iter(texts, on_fault=faults.append))
        return with_faults(given, [{"EMBEDDING": each} for each in found if each is not None], faults)

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`."""
        self._text.encode("No pleural effusion.")


class FillMasks:
    """TEXT with [MASK], and if wanted TOP_K int32 and TARGETS → JSON: a list of what `TextEncoder.fill_mask` gives.

    With one mask that is the list of words, the best first; with several a list of such lists.
    """

    noun, inputs, outputs = "texts", ("TEXT", "TOP_K", "TARGETS"), ("JSON",)

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_characters
        self._text = settings.load("text").text
        self.check()  # opens the graph now, or says why it cannot

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`; items that ask for the same are computed together."""
        given = [text_of(item, "TEXT", self._most) for item in items]
        asked: dict[tuple[int, tuple[str, ...] | None], list[int]] = defaultdict(list)
        outcomes: list[Outcome] = [each.reason if isinstance(each, Fault) else "" for each in given]
        for index, item in enumerate(items):
            if isinstance(given[index], str):
                try:
                    asked[_top_k(item), _targets(item)].append(index)
                except UnicodeDecodeError:
                    outcomes[index] = "TARGETS is not valid UTF-8"
        for (top_k, targets), indices in asked.items():
            texts = [str(given[index]) for index in indices]
            for index, outcome in zip(indices, self._fill(texts, top_k, targets), strict=True):
                outcomes[index] = outcome
        return outcomes

    def _fill(self, texts: list[str], top_k: int, targets: tuple[str, ...] | None) -> list[Outcome]:
        bad: dict[int, str] = {}
        found: list[Any] = []
        while len(bad) < len(texts):
            good = [text for index, text in enumerate(texts) if index not in bad]
            try:
                found = self._text.fill_mask(good, top_k, targets)
                break
            except InputError as error:
                if not error.faults:  # what is asked for is wrong, not a text
                    return [str(error)] * len(texts)
                left = [index for index in range(len(texts)) if index not in bad]
                bad |= {left[fault.index]: fault.reason for fault in error.faults}
        answers = iter([found] if len(texts) - len(bad) == 1 else found)
        return [bad[index] if index in bad else {"JSON": json_tensor(next(answers))} for index in range(len(texts))]

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        return stack(found)

    def check(self) -> None:
        """See `Task.check`."""
        self._text.fill_mask("No [MASK] effusion.", 1)


def _top_k(item: Item) -> int:
    values = item["TOP_K"]
    return _TOP_K if values is None else int(values[0])


def _targets(item: Item) -> tuple[str, ...] | None:
    values = item["TARGETS"]
    return None if values is None else tuple(bytes(each).decode("utf-8") for each in values)


class TokenizeTexts:
    """TEXT → input_ids and attention_mask int64 (T,), for a model that runs the text graph in another backend.

    A request's texts are padded to the longest of them, rounded up so that requests can share a batch. The engine is
    not needed, and no inference engine need be installed.
    """

    noun, inputs, outputs = "texts", ("TEXT",), ("input_ids", "attention_mask")

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_characters
        bundle = open_bundle(settings.bundle)
        part = bundle.text_part()
        files = [f"text/{name}" for name in TOKENIZER_FILES]
        self._tokenizer, _ = bundle.files.open(files, (), lambda: Tokenizer(bundle.path("text"), part.tokenization))

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """See `Task.run`."""
        given = [text_of(item, "TEXT", self._most) for item in items]
        texts = [each for each in given if isinstance(each, str)]
        rows, faults = self._tokenizer.try_encode(texts, prompt=self._tokenizer.prompt(None))
        bad = {fault.index for fault in faults}
        good = [np.array(row, dtype=np.int64) for index, row in enumerate(rows) if index not in bad]
        return with_faults(given, [{"input_ids": row} for row in good], faults)

    def stack(self, found: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """See `Task.stack`."""
        longest = max(len(each["input_ids"]) for each in found)
        shape = len(found), min(-(-longest // _GRID) * _GRID, self._tokenizer.max_length)
        input_ids = np.full(shape, self._tokenizer.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, each in enumerate(found):
            ids = each["input_ids"]
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def check(self) -> None:
        """See `Task.check`."""
        self._tokenizer.encode(["No pleural effusion."])
