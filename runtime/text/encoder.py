"""Texts → embeddings, and words for masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.parts import TextPart
from runtime.engines import Sessions
from runtime.engines.session import Reduced, reduced_or_raise
from runtime.errors import BundleError, Fault, InputError
from runtime.process import flag
from runtime.process.checks import TEXTS, callback, taken, texts_of
from runtime.process.notices import Notices
from runtime.text.embedding_cache import EmbeddingCache
from runtime.text.fill_mask import MaskFiller
from runtime.text.masked_accuracy import MaskedAccuracy
from runtime.text.similarity import text_similarity
from runtime.text.text_batches import TextBatches
from runtime.text.tokenization import Tokenizer
from runtime.text.windows import TextWindows
from runtime.text.words import EmbeddedWords, WordEncoder

__all__ = ["TextEncoder"]


class TextEncoder:
    """The text half of an engine.

    Attributes:
        tokenizer: the bundle's tokenizer.
        embedding_size: length of an embedding (128 for CXR-BERT).
        batches: plans and lays out batches, for those who schedule them on their own.
        cache: of the embeddings of texts that come again; `cache.hits` counts those found in it.
    """

    def __init__(
        self,
        part: TextPart,
        sessions: Sessions,
        tokenizer: Tokenizer,
        packed: bool = False,
        *,
        masks: MaskFiller | None = None,
        words: WordEncoder | None = None,
        token_budget: int,
        cache: int = 0,
        reduced: Reduced | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            part: the manifest's.
            sessions: of the graph.
            tokenizer: the bundle's.
            packed: whether the graph takes several texts a row.
            masks: what fills masks.
            words: what embeds words; None where the system embeds whole texts alone.
            token_budget: tokens in one batch, padding counted, at least 1; a longer text has a batch of its own.
            cache: texts whose embeddings are kept.
            reduced: how it is pickled.
        """
        self.tokenizer = tokenizer
        self.embedding_size = part.embedding_size
        self.batches = TextBatches(
            sessions, packed, token_budget, tokenizer.pad_token_id, tokenizer.max_length, part.pooling
        )
        self.cache = EmbeddingCache(cache)
        self._windows = TextWindows(tokenizer, self.batches, part.embedding_size, self.cache)
        self._masks = masks
        self._words = words
        self._reduced = reduced

    @property
    def notices(self) -> Notices:
        """Texts that were cut so far, counted."""
        return self._windows.notices

    def __reduce__(self) -> Reduced:
        return reduced_or_raise(self, self._reduced)

    def encode(
        self, texts: str | Iterable[str], *, normalize: bool = True, prompt_name: str | None = None
    ) -> NDArray[np.float32]:
        """Embed one text or many, for CXR-BERT in the space shared with images.

        What an embedding is made of is the system's: for CXR-BERT the projected [CLS] state (Boecking et al., ECCV
        2022, section 2; reference: `TextInferenceEngine.get_embeddings_from_prompt`), with trailing "!?." ignored, as
        there. Equal texts are computed once; those of earlier calls are taken from the cache, as the very bytes that
        were computed for them first. A call with a corpus (1,024 texts or 8,192 tokens) is computed and not kept.

        Args:
            texts: a string, or any number of strings in any order. An empty string is a text of no words.
            normalize: divide each row by its L2 norm. Average several prompts before normalizing: pass False.
            prompt_name: of what the system puts before texts of a kind (sentence-transformers: `prompt_name`); None
                takes its default, which is nothing for most.

        Returns:
            float32 (N, D), row i for text i; unit L2 norm unless `normalize` is False. D is 128 for CXR-BERT.

        Raises:
            InputError: no texts, items that are no strings, special tokens other than [MASK] in a text, texts of more
                tokens than the system reads (512 for CXR-BERT), unless it cuts them: then they are counted and said,
                see `notices`. All bad texts are listed together. A prompt that the system has not.
        """
        listed, normalize, prompt = texts_of(texts), flag("normalize", normalize), self.tokenizer.prompt(prompt_name)
        faults: list[Fault] = []
        embeddings = np.empty((len(listed), self.embedding_size), dtype=np.float32)
        for window in self._windows.windows(listed, normalize, skip_bad=False, prompt=prompt, cached=True):
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
        prompt_name: str | None = None,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Embed any number of texts, in order and in bounded memory; nothing is taken from the cache or kept in it.

        Args:
            texts: strings, taken as embeddings are consumed, some thousands ahead; nothing is taken before the first is
                asked for.
            normalize: as for `encode`; prompt_name alike.
            on_fault: called with each text that cannot be used (`Fault.index` counts from the first text); its
                embedding is None. Without it such a text raises InputError.

        Yields:
            float32 (D,) for each text, in the order given.

        Raises:
            InputError: as for `encode`, but an empty iterable yields nothing.
        """
        return self._encode_iter(
            taken(texts, "texts", TEXTS),
            flag("normalize", normalize),
            self.tokenizer.prompt(prompt_name),
            callback("on_fault", on_fault),
        )

    def _encode_iter(
        self, texts: Iterable[str], normalize: bool, prompt: str, on_fault: Callable[[Fault], None] | None
    ) -> Iterator[NDArray[np.float32] | None]:
        for window in self._windows.windows(texts, normalize, skip_bad=on_fault is not None, prompt=prompt):
            if window.faults and on_fault is None:
                raise InputError.from_faults("texts", window.faults, window.start + len(window.row_of))
            if on_fault is not None:
                for fault in window.faults:
                    on_fault(fault)
            for row in window.row_of:
                # A view would keep the whole window alive.
                yield window.embeddings[row].copy() if row >= 0 else None

    def encode_words(self, texts: str | Iterable[str]) -> list[EmbeddedWords]:
        """Embed texts and each of their words, for systems whose words attend to regions of images (GLoRIA).

        Args:
            texts: as for `encode`; few of them, since all of their words are kept.

        Returns:
            For each text its words, their embeddings, and its own.

        Raises:
            InputError: as for `encode`.
            BundleError: the system embeds whole texts alone.
        """
        if self._words is None:
            raise BundleError("This text encoder embeds whole texts, not their words; a system such as gloria does.")
        return self._words.encode(texts_of(texts))

    def encode_tokens(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """Embed tokenized texts, as bulk work however few they are: what `runtime.choice.tune` measures.

        Args:
            rows: token ids, special tokens among them, at most as many as the system reads; equal rows are computed
                again.

        Returns:
            float32 (N, D), unit L2 norm.
        """
        return self._windows.encode_tokens(rows)

    def fill_mask(
        self, texts: str | Sequence[str], top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Any]:
        """The likeliest words at each [MASK], as transformers' `fill-mask` pipeline gives them.

        The text is read as it stands, its last full stop included. The graph for it is opened at the first call.

        Args:
            texts: a text with at least one [MASK], or several in any order.
            top_k: words per mask, at most as many as there are targets.
            targets: words that alone are asked about; of a word that is no token of the vocabulary its first piece,
                with a warning of the logger "runtime". Their scores are still those among all words.

        Returns:
            For a text with one mask (also if it is the only one in a list) a list of `runtime.Filled`: dictionaries
            with score, token, token_str and sequence, the best first. With several masks a list of those, one for
            each mask, filled independently. For several texts a list of what each alone would give.

        Raises:
            InputError: no [MASK] in a text, more tokens than the system reads, other special tokens (all bad texts are
                listed
                together); top_k below 1 or beyond the vocabulary; no target has a token.
            BundleError: the bundle has no graph for it, in this precision on this provider.
        """
        return self.masks.fill_mask(texts, top_k, targets)

    def predict_masked_tokens(self, prompts: str | Sequence[str]) -> list[list[str]]:
        """The likeliest token at each [MASK] (reference: `TextInferenceEngine.predict_masked_tokens`).

        Unlike for `fill_mask`, trailing "!?." are ignored, as there, and a prompt may have no mask.

        Returns:
            For each prompt the tokens of its masks, in order, as the vocabulary has them ("##s").

        Raises:
            InputError, BundleError: as for `fill_mask`.
        """
        return self.masks.predict_masked_tokens(prompts)

    def masked_token_accuracy(
        self,
        texts: Iterable[str],
        *,
        share: float = 0.15,
        one_at_a_time: bool = False,
        seed: int = 0,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> MaskedAccuracy:
        """Mask prediction accuracy: how often the model puts the token that was masked first.

        Args:
            texts: whole texts, without [MASK]; nothing is stripped.
            share: of each text's tokens that are masked at once, at least one, chosen at random; see
                `runtime.text.masked_accuracy` for how this differs from training.
            one_at_a_time: mask every token in turn instead, which costs a pass for each.
            seed: of the choice; a text's masks depend on it and on the text's position alone.
            on_fault: called with each text that cannot be used, which is then left out; without it they raise.

        Returns:
            `MaskedAccuracy`: accuracy, correct, masked, texts and the settings.

        Raises:
            InputError: texts over the longest input, with special tokens, or without a token to mask; share outside
                (0, 1].
            BundleError: as for `fill_mask`.
        """
        return self.masks.masked_token_accuracy(
            texts, share=share, one_at_a_time=one_at_a_time, seed=seed, on_fault=on_fault
        )

    @property
    def masks(self) -> MaskFiller:
        """What fills masks; its graph is opened when it is first needed.

        Raises:
            BundleError: the tokenizer has no [MASK].
        """
        self.tokenizer.required_mask()
        if self._masks is None:
            raise BundleError("This text encoder was put together without what fills masks; use runtime.load().")
        return self._masks
