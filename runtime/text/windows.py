"""Texts, window by window, to their embeddings: what is planned, batched and computed while the caller waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.engines import Session
from runtime.errors import Fault
from runtime.process.notices import Notice, Notices
from runtime.process.workers import ordered_map
from runtime.text.bulk import BulkRule, even_budget
from runtime.text.embedding_cache import EmbeddingCache
from runtime.text.packing import Row
from runtime.text.text_batches import TextBatch, TextBatches, run_batch
from runtime.text.tokenization import Tokenizer

__all__ = ["TextWindows", "Window"]

# Texts that are tokenized and planned together: enough to fill rows and batches, few enough to hold.
_WINDOW = 1024
_NOTHING_LEFT = Notice(
    "nothing left to read: the system leaves sentences of one word out",
    "nothing of it is read: the system leaves sentences of one word out",
)


@dataclass
class Window:
    """Some consecutive texts.

    Attributes:
        start: number of the first one.
        rows: token ids of the different ones.
        row_of: of each text, or -1 for one that cannot be used.
        faults: those that cannot, counted from the first text of all.
        embeddings: float32 (different texts, D), filled batch by batch.
        wanted: positions in `rows` of those that are to be computed; None for all.
    """

    start: int
    rows: list[list[int]]
    row_of: NDArray[np.intp]
    faults: list[Fault]
    embeddings: NDArray[np.float32] = field(repr=False)
    wanted: list[int] | None = None

    @property
    def computed(self) -> list[list[int]]:
        """Token ids of those that are to be computed."""
        return self.rows if self.wanted is None else [self.rows[index] for index in self.wanted]


@dataclass(frozen=True)
class _Job:
    """A batch of a window, or None where there is nothing to compute."""

    window: Window
    batch: TextBatch | None


class TextWindows:
    """Computes embeddings of any number of texts, in order and in bounded memory."""

    def __init__(self, tokenizer: Tokenizer, batches: TextBatches, embedding_size: int, cache: EmbeddingCache) -> None:
        """Put the parts together; see `TextEncoder`."""
        self._tokenizer = tokenizer
        self._batches = batches
        self._sessions = batches.sessions
        self._embedding_size = embedding_size
        self._bulk = BulkRule()
        self._cache = cache
        self.notices = Notices("texts")

    def encode_tokens(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """See `TextEncoder.encode_tokens`."""
        shape = (len(rows), self._embedding_size)
        window = Window(0, list(rows), np.arange(len(rows)), [], np.empty(shape, np.float32))
        run = partial(_run, self._sessions.bulk(), "text_embeds", None)
        workers = self._sessions.streams if self._sessions.streams > 1 else 0
        for _ in ordered_map(run, self._plan(window, skip_bad=False), workers, pinned=self._sessions.pinned):
            pass
        return window.embeddings

    def windows(
        self, texts: Iterable[str], normalize: bool, skip_bad: bool, prompt: str = "", cached: bool = False
    ) -> Iterator[Window]:
        """Texts, window by window, with their embeddings; after a bad text nothing is computed unless `skip_bad`.

        Texts are tokenized and planned on this thread while the engine computes earlier ones on others. `prompt` stands
        before each; what is cut is counted in `notices`. With `cached`, texts are looked up and kept in the cache,
        unless they are many.
        """
        output = "text_embeds" if normalize else "unnormalized_embeds"
        remaining = iter(texts)
        first = self._read(remaining, 0, prompt)
        if first is None:
            return
        session, workers = self._sessions.single, 1
        more = len(first.row_of) == _WINDOW
        computes = skip_bad or not first.faults
        cache = None
        if cached and computes and not more and self._cache.suits(first.rows):
            cache = self._cache
            first.wanted = cache.find(output, first.rows, first.embeddings)
        lengths = [len(row) for row in first.computed]
        budget = self._batches.token_budget
        bulk = computes and (more or self._bulk.applies(lengths, self._sessions.streams, budget))
        if bulk and not more:
            budget = even_budget(sum(lengths), self._sessions.streams, budget)
        jobs = self._plan(first, skip_bad, budget=budget)
        if not computes:
            workers = 0
        elif bulk:
            session, workers = self._sessions.bulk(), self._sessions.streams
        elif len(jobs) == 1:
            workers = 0

        def upcoming() -> Iterator[_Job]:
            yield from jobs
            last, compute = first, True
            while (window := self._read(remaining, last.start + len(last.row_of), prompt)) is not None:
                compute = compute and (skip_bad or not last.faults)
                yield from self._plan(window, skip_bad, compute)
                last = window

        current = first
        pinned = bulk and self._sessions.pinned
        for job in ordered_map(partial(_run, session, output, cache), upcoming(), workers, pinned=pinned):
            if job.window is not current:
                yield current
                current = job.window
        yield current

    def _read(self, texts: Iterator[str], start: int, prompt: str) -> Window | None:
        """Tokenize the next window; equal rows of tokens are kept once."""
        taken = list(islice(texts, _WINDOW))
        if not taken:
            return None
        longest = self._tokenizer.max_length

        def note(index: int, tokens: int) -> None:
            kind = f"more than {longest} tokens, cut there as the system does"
            text = f"what is beyond {longest} is cut, as the system does"
            # Not by its first words, which may name somebody.
            self.notices.add(f"a text of {tokens} tokens", [Notice(kind, text)], key=taken[index])

        def note_empty(index: int) -> None:
            self.notices.add("a text", [_NOTHING_LEFT], key=taken[index])

        rows, faults = self._tokenizer.try_encode(taken, prompt=prompt, on_cut=note, on_empty=note_empty)
        bad = {fault.index for fault in faults}
        different: dict[tuple[int, ...], int] = {}
        row_of = [
            -1 if index in bad else different.setdefault(tuple(row), len(different)) for index, row in enumerate(rows)
        ]
        return Window(
            start,
            [list(row) for row in different],
            np.array(row_of, dtype=np.intp),
            [Fault(start + fault.index, fault.name, fault.reason) for fault in faults],
            np.empty((len(different), self._embedding_size), dtype=np.float32),
        )

    def _plan(self, window: Window, skip_bad: bool, compute: bool = True, budget: int | None = None) -> list[_Job]:
        """The batches of a window, the largest first, so that streams finish together; an empty one where there is
        nothing to compute.
        """
        rows = window.computed
        if not rows or not compute or (window.faults and not skip_bad):
            return [_Job(window, None)]
        plans = sorted(self._batches.plan([len(row) for row in rows], budget), key=_size, reverse=True)
        batches = [self._batches.lay_out(plan, rows) for plan in plans]
        if len(rows) < len(window.rows):
            places = np.array(window.wanted, dtype=np.intp)
            batches = [replace(batch, texts=places[batch.texts]) for batch in batches]
        return [_Job(window, batch) for batch in batches]


def _size(batch: Sequence[Row]) -> int:
    """Tokens, padding counted."""
    return sum(row.width for row in batch)


def _run(session: Session, output: str, cache: EmbeddingCache | None, job: _Job) -> _Job:
    if job.batch is not None:
        found = run_batch(session, job.batch, output)
        job.window.embeddings[job.batch.texts] = found
        if cache is not None:
            cache.keep(output, [job.window.rows[index] for index in job.batch.texts], found)
    return job
