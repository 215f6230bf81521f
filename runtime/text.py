"""Texts → embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from runtime.batching import pad_batch, plan_batches
from runtime.errors import Fault, InputError
from runtime.manifest import TextPart
from runtime.packing import Row, pack_batch, plan_packed
from runtime.session import Session
from runtime.sessions import Sessions
from runtime.similarity import text_similarity
from runtime.tokenization import Tokenizer
from runtime.workers import ordered_map

__all__ = ["TOKEN_BUDGET", "TextEncoder"]

# Tokens in one batch: enough to keep the matrix products busy, little enough to stay in cache.
TOKEN_BUDGET = 512
# Texts that are tokenized and planned together: enough to fill rows and batches, few enough to hold.
_WINDOW = 1024
# From so many tokens on a second session, with streams, is worth opening.
_BULK_TOKENS = 8192


@dataclass
class _Window:
    """Some consecutive texts.

    Attributes:
        start: number of the first one.
        rows: token ids of the different ones.
        row_of: of each text, or -1 for one that cannot be used.
        faults: those that cannot, counted from the first text of all.
        embeddings: float32 (different texts, D), filled batch by batch.
    """

    start: int
    rows: list[list[int]]
    row_of: NDArray[np.intp]
    faults: list[Fault]
    embeddings: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class _Job:
    """A batch of a window: inputs of the graph, whose results stand at `found` and belong to the rows `rows`."""

    window: _Window
    inputs: dict[str, NDArray[np.int64]]
    found: tuple[NDArray[np.intp], ...]
    rows: NDArray[np.intp]


class TextEncoder:
    """The text half of an engine.

    Attributes:
        tokenizer: the bundle's tokenizer.
        embedding_size: length of an embedding (128 for CXR-BERT).
    """

    def __init__(
        self,
        part: TextPart,
        sessions: Sessions,
        tokenizer: Tokenizer,
        packed: bool = False,
        *,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        """Put the parts together.

        Args:
            part: the manifest's.
            sessions: of the graph.
            tokenizer: the bundle's.
            packed: whether the graph takes several texts a row.
            token_budget: tokens in one batch, padding counted, at least 1; a longer text has a batch of its own.
        """
        self.tokenizer = tokenizer
        self.embedding_size = part.embedding_size
        self._sessions = sessions
        self._packed = packed
        self._token_budget = token_budget

    def encode(self, texts: str | Iterable[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """Embed one text or many in the space shared with images.

        Each row is the projected [CLS] embedding of one text (Boecking et al., ECCV 2022, section 2; reference:
        `TextInferenceEngine.get_embeddings_from_prompt`). Trailing "!?." are ignored, as there. Equal texts are
        computed once.

        Args:
            texts: a string, or any number of strings in any order. An empty string is a text of no words.
            normalize: divide each row by its L2 norm. Average several prompts before normalizing: pass False.

        Returns:
            float32 (N, 128), row i for text i; unit L2 norm unless `normalize` is False.

        Raises:
            InputError: no texts, items that are no strings, special tokens other than [MASK] in a text, texts of more
                than 512 tokens. All bad texts are listed together.
        """
        if isinstance(texts, str):
            texts = [texts]
        elif not isinstance(texts, Iterable):
            raise InputError(f"A {type(texts).__name__} came where texts are expected: a str or a list of str.")
        listed = list(texts)
        if not listed:
            raise InputError("The list of texts is empty; at least one text is expected.")
        faults: list[Fault] = []
        embeddings = np.empty((len(listed), self.embedding_size), dtype=np.float32)
        for window in self._windows(listed, normalize, skip_bad=False):
            faults += window.faults
            if not faults:
                embeddings[window.start : window.start + len(window.row_of)] = window.embeddings[window.row_of]
        if faults:
            raise InputError.from_faults("texts", faults, len(listed))
        return embeddings

    def similarity(self, a: str | Iterable[str], b: str | Iterable[str]) -> NDArray[np.float32]:
        """Cosine similarity of text i of `a` with text i of `b` (reference: `get_pairwise_similarities`).

        Args:
            a: a string, or N strings.
            b: as many. (Where the numbers differ the reference cuts the longer list.)

        Returns:
            float32 (N,) in [-1, 1]; N is 1 for two strings.

        Raises:
            InputError: the numbers differ, no texts, or texts that `encode` refuses; all of them are listed together.
        """
        return text_similarity(self.encode, a, b)

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Embed any number of texts, in order and in bounded memory.

        Args:
            texts: strings, taken as embeddings are consumed, some thousands ahead; nothing is taken before the first is
                asked for.
            normalize: as for `encode`.
            on_fault: called with each text that cannot be used (`Fault.index` counts from the first text); its
                embedding is None. Without it such a text raises InputError.

        Yields:
            float32 (128,) for each text, in the order given.

        Raises:
            InputError: as for `encode`, but an empty iterable yields nothing.
        """
        for window in self._windows(texts, normalize, skip_bad=on_fault is not None):
            if window.faults and on_fault is None:
                raise InputError.from_faults("texts", window.faults, window.start + len(window.row_of))
            if on_fault is not None:
                for fault in window.faults:
                    on_fault(fault)
            for row in window.row_of:
                # A view would keep the whole window alive.
                yield window.embeddings[row].copy() if row >= 0 else None

    def encode_tokens(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """Embed texts that are tokenized already, as bulk work however few they are: what `runtime.tune` measures.

        Args:
            rows: token ids, [CLS] and [SEP] among them, at most 512 each; equal rows are computed again.

        Returns:
            float32 (N, 128), unit L2 norm.
        """
        shape = (len(rows), self.embedding_size)
        window = _Window(0, list(rows), np.arange(len(rows)), [], np.empty(shape, np.float32))
        run = partial(_run, self._sessions.bulk(), "text_embeds")
        workers = self._sessions.streams if self._sessions.streams > 1 else 0
        for _ in ordered_map(run, self._plan(window, skip_bad=False), workers):
            pass
        return window.embeddings

    def _windows(self, texts: Iterable[str], normalize: bool, skip_bad: bool) -> Iterator[_Window]:
        """Texts, window by window, with their embeddings; after a bad text nothing is computed unless `skip_bad`.

        Texts are tokenized and planned on this thread while the engine computes earlier ones on others.
        """
        output = "text_embeds" if normalize else "cls_projected_embedding"
        remaining = iter(texts)
        first = self._read(remaining, 0)
        if first is None:
            return
        session, workers = self._sessions.single, 1
        jobs = self._plan(first, skip_bad)
        more = len(first.row_of) == _WINDOW
        if first.faults and not skip_bad:
            workers = 0  # nothing will be computed
        elif more or sum(map(len, first.rows)) >= _BULK_TOKENS:
            session, workers = self._sessions.bulk(), self._sessions.streams
        elif len(jobs) == 1:
            workers = 0

        def upcoming() -> Iterator[_Job]:
            yield from jobs
            last, compute = first, True
            while (window := self._read(remaining, last.start + len(last.row_of))) is not None:
                compute = compute and (skip_bad or not last.faults)
                yield from self._plan(window, skip_bad, compute)
                last = window

        current = first
        for job in ordered_map(partial(_run, session, output), upcoming(), workers):
            if job.window is not current:
                yield current
                current = job.window
        yield current

    def _read(self, texts: Iterator[str], start: int) -> _Window | None:
        """Tokenize the next window; equal rows of tokens are kept once."""
        taken = list(islice(texts, _WINDOW))
        if not taken:
            return None
        rows, faults = self.tokenizer.try_encode(taken)
        bad = {fault.index for fault in faults}
        different: dict[tuple[int, ...], int] = {}
        row_of = [
            -1 if index in bad else different.setdefault(tuple(row), len(different)) for index, row in enumerate(rows)
        ]
        return _Window(
            start,
            [list(row) for row in different],
            np.array(row_of, dtype=np.intp),
            [Fault(start + fault.index, fault.name, fault.reason) for fault in faults],
            np.empty((len(different), self.embedding_size), dtype=np.float32),
        )

    def _plan(self, window: _Window, skip_bad: bool, compute: bool = True) -> list[_Job]:
        """The batches of a window; an empty one where there is nothing to compute."""
        if not window.rows or not compute or (window.faults and not skip_bad):
            return [_Job(window, {}, (), np.empty(0, np.intp))]
        lengths = [len(row) for row in window.rows]
        if self._packed:
            batches = plan_packed(lengths, self._token_budget, self.tokenizer.max_length)
            return [self._packed_job(window, batch) for batch in batches]
        return [self._padded_job(window, batch) for batch in plan_batches(lengths, self._token_budget)]

    def _packed_job(self, window: _Window, batch: Sequence[Row]) -> _Job:
        packed = pack_batch(batch, window.rows, self.tokenizer.pad_token_id)
        return _Job(window, packed.inputs, (packed.row, packed.place), packed.texts)

    def _padded_job(self, window: _Window, batch: NDArray[np.intp]) -> _Job:
        input_ids, attention_mask = pad_batch([window.rows[index] for index in batch], self.tokenizer.pad_token_id)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return _Job(window, inputs, (np.arange(len(batch)),), batch)


def _run(session: Session, output: str, job: _Job) -> _Job:
    if len(job.rows):
        job.window.embeddings[job.rows] = session.run([output], job.inputs)[0][job.found]
    return job
