"""Text → input_ids, as the bundle's system tokenizes its texts.

What differs between systems is in `Tokenization`. Sources: hi-ml-multimodal, `TextInput.tokenize_input_prompts`
(trailing "!?." are stripped, special tokens other than [MASK] raise, nothing is truncated); sentence-transformers,
`Transformer.tokenize` (what is longer is cut, prompts are put before texts); transformers, `CLIPTokenizer`, and
open_clip, `SimpleTokenizer` and `HFTokenizer` (what is longer is cut, and still ends with the end token).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer

from runtime.bundle.parts import BYTE_PAIRS, CUT, NO_CLEANING, WORD_PIECES, Tokenization
from runtime.errors import BundleError, Fault, InputError
from runtime.process import shown
from runtime.process.checks import missing
from runtime.process.forks import in_children
from runtime.text.cleaning import CLEANERS, check_cleaning

__all__ = ["TOKENIZER_FILES", "TokenSpan", "Tokenizer"]

# What `Tokenizer` reads in its folder.
TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json")
# Roles of special tokens that may be written in a text. A CLIP may be padded with "!", which is a word of its own.
_WRITABLE = {WORD_PIECES: {"mask_token"}, BYTE_PAIRS: {"mask_token", "pad_token"}}


def _alone_in_children() -> None:
    """A forked child lacks the tokenizers' threads. They do without, unless this variable tells them not to."""
    if "TOKENIZERS_PARALLELISM" in os.environ:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


in_children(_alone_in_children)


@dataclass(frozen=True)
class TokenSpan:
    """A token and where it stands.

    Attributes:
        id: in the vocabulary.
        text: what it stands for as it was written; of special tokens their name.
        special: whether it is one that was put there, such as [CLS].
        start: first character of `text` in what was tokenized; `stop` is the one behind it. None for special tokens.
        stop: see start.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokenizer:
    """A tokenizer read from a bundle's text folder.

    Attributes:
        max_length: longest sequence in tokens, special tokens included.
        pad_token_id: what fills rows.
        mask_token_id: of [MASK]; None where there is none, as in CLIP's.
        special_ids: of all special tokens.
    """

    def __init__(self, folder: Path, rules: Tokenization) -> None:
        """Read `tokenizer.json` and `special_tokens_map.json`.

        Args:
            folder: the bundle's text folder.
            rules: how texts become tokens.

        Raises:
            BundleError: the files are not valid.
            MissingExtraError: the way in which the system cleans texts needs a package.
        """
        check_cleaning(rules.cleaning)
        try:
            self._tokenizer = RustTokenizer.from_file(str(folder / "tokenizer.json"))
            special = json.loads((folder / "special_tokens_map.json").read_text(encoding="utf-8"))
            ids = {token: self._tokenizer.token_to_id(token) for token in special.values()}
            pad_token_id = ids[special["pad_token"]]
            mask_token_id = ids[special["mask_token"]] if "mask_token" in special else None
            writable = _WRITABLE[rules.tokenizer]
            self._forbidden = tuple(sorted({special[role] for role in special if role not in writable}))
        except Exception as error:  # the Rust tokenizer raises plain Exception
            raise BundleError(f"The tokenizer in {folder} cannot be read: {error}. Export the bundle again.") from None
        if pad_token_id is None or ("mask_token" in special and mask_token_id is None):
            raise BundleError(f"The tokenizer in {folder} lacks [PAD] or [MASK]. Export the bundle again.")
        self.pad_token_id: int = pad_token_id
        self.mask_token_id: int | None = mask_token_id
        self.special_ids: frozenset[int] = frozenset(index for index in ids.values() if index is not None)
        self._only = f"only {special['mask_token']}" if "mask_token" in special else "none"
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._rules = rules
        self.max_length = rules.max_length
        # Of "[CLS] x [SEP]" one stands before the text and one behind it.
        marked = self._tokenizer.encode("x")
        words = [index for index, mark in enumerate(marked.special_tokens_mask) if not mark]
        self._starts, self._ends = words[0] if words else 0, len(marked.ids) - 1 - (words[-1] if words else -1)
        self._marks = frozenset(marked.ids[: self._starts] + marked.ids[len(marked.ids) - self._ends :])

    def prompt(self, name: str | None) -> str:
        """What stands before texts of a kind.

        Args:
            name: of the kind; None takes the bundle's default.

        Raises:
            InputError: the bundle has no prompt of that name; those it has are listed.
        """
        prompts = self._rules.prompts
        if name is None:
            name = self._rules.default_prompt
            return "" if name is None else prompts[name]
        if not isinstance(name, str) or name not in prompts:
            there = f"it has: {', '.join(prompts)}" if prompts else "it has none"
            raise InputError(f"The bundle has no prompt {shown(name)}; {there}.")
        return prompts[name]

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        size: int = self._tokenizer.get_vocab_size()
        return size

    def required_mask(self) -> int:
        """The id of [MASK], for what cannot do without; raises BundleError where there is none."""
        if self.mask_token_id is None:
            raise BundleError("The bundle cannot fill masks: its tokenizer has no token that stands for one.")
        return self.mask_token_id

    def find(self, token: str) -> int | None:
        """The id of a token of the vocabulary, written as there ("##s" for the piece of a word), or None."""
        index: int | None = self._tokenizer.token_to_id(token)
        return index

    def token(self, index: int) -> str:
        """The token with an id, as the vocabulary has it: "##s" for the piece of a word."""
        return str(self._tokenizer.id_to_token(index))

    def pieces(self, word: str) -> list[int]:
        """Token ids of a word, without [CLS] and [SEP]."""
        ids: list[int] = self._tokenizer.encode(word, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The text of some tokens, in lower case if the model reads that, spaces before punctuation removed."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def spans(self, text: str, *, prompt: str = "", special_tokens: bool = True) -> list[TokenSpan]:
        """The tokens that a text becomes before it is embedded, however many: what is read of it, and where it stands.

        Args:
            text: a string; what the system's cleaning leaves of it is tokenized.
            prompt: what stands before it.
            special_tokens: whether those at its ends are listed.
        """
        read = prompt + CLEANERS[self._rules.cleaning](text)
        encoding = self._tokenizer.encode(read, add_special_tokens=special_tokens)
        return [
            TokenSpan(index, token, True, None, None)
            if special
            else TokenSpan(index, read[start:stop], False, start, stop)
            for index, token, special, (start, stop) in zip(
                encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
            )
        ]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with special tokens at its ends, unpadded.

        Args:
            texts: any number of strings; [MASK] may occur in them, other special tokens may not.

        Returns:
            One list of 2 … max_length ids per text, in the order given.

        Raises:
            InputError: no texts, items that are no strings, special tokens in a text, texts over max_length tokens
                where the system refuses those. All bad texts are listed together.
        """
        if len(texts) == 0:
            raise InputError("The list of texts is empty; at least one text is expected.")
        encoded, faults = self.try_encode(texts)
        if faults:
            raise InputError.from_faults("texts", faults, len(texts))
        return encoded

    def emptied(self, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that have words, but of which the system's cleaning leaves nothing."""
        clean = CLEANERS[self._rules.cleaning]
        return [index for index, text in enumerate(texts) if any(map(str.isalnum, text)) and not clean(text)]

    def try_encode(
        self,
        texts: Sequence[str],
        *,
        clean: bool = True,
        prompt: str = "",
        cut: bool | None = None,
        from_left: bool = False,
        on_cut: Callable[[int, int], None] = lambda index, tokens: None,
        on_empty: Callable[[int], None] = lambda index: None,
    ) -> tuple[list[list[int]], list[Fault]]:
        """Token ids as `encode` gives them, and a fault for each text that cannot be used; its ids mean nothing.

        Args:
            texts: as for `encode`.
            clean: prepare texts for embedding as the system does: clean them, cut them where it cuts. Otherwise they
                are taken as they stand, and too long ones are faults.
            prompt: what stands before each text.
            cut: whether too long texts are cut; None does as the system does.
            from_left: cut their beginnings, not their ends.
            on_cut: called with the position and the number of tokens of each text that is cut.
            on_empty: called with the position of each text with words of which cleaning leaves nothing.
        """
        clean_text = CLEANERS[self._rules.cleaning if clean else NO_CLEANING]
        faults: dict[int, str] = {}
        prompts: list[str] = []
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                faults[index] = f"{missing(text)} came where a str is expected"
                continue
            if not _is_unicode(text):
                faults[index] = "contains half of a surrogate pair, which is not valid Unicode. Decode the file again"
                continue
            cleaned = clean_text(text)  # may put a special token together: "&lt;|endoftext|&gt;"
            if found := [token for token in self._forbidden if token in cleaned]:
                faults[index] = self._forbids(found[0])
                continue
            if not cleaned and any(map(str.isalnum, text)):
                on_empty(index)
            prompts.append(prompt + cleaned)
        # Of a single text on this thread: a batch is handed to others, for whom it would wait where all are busy.
        encodings = (
            self._tokenizer.encode_batch_fast(prompts) if len(prompts) > 1 else map(self._tokenizer.encode, prompts)
        )
        ids = iter([encoding.ids for encoding in encodings])
        if cut is None:
            cut = clean and self._rules.too_long == CUT
        encoded: list[list[int]] = []
        for index in range(len(texts)):
            row = [] if index in faults else next(ids)
            within = row[self._starts : len(row) - self._ends]
            if not self._marks.isdisjoint(within):
                # In capitals, where texts are lower-cased first.
                faults[index] = self._forbids(self.token(next(each for each in within if each in self._marks)))
            elif len(row) > self.max_length and cut:
                on_cut(index, len(row))
                room = self.max_length - self._starts - self._ends
                kept = within[len(within) - room :] if from_left else within[:room]
                row = row[: self._starts] + kept + row[len(row) - self._ends :]
            encoded.append(row)
            if len(row) > self.max_length:
                faults.setdefault(
                    index,
                    f"{len(row)} tokens, but the model reads at most {self.max_length} and texts are never cut "
                    "silently. Split or shorten it",
                )
        return encoded, [Fault(index, shown(texts[index]), faults[index]) for index in sorted(faults)]

    def _forbids(self, token: str) -> str:
        return f"contains the special token {token}; {self._only} may be written in a text. Remove it"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
