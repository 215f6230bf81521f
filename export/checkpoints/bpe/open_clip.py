"""The vocabulary that open_clip's package brings, which is OpenAI's: 48,894 merges, 49,408 tokens.

Source: open_clip, `SimpleTokenizer`, which reads no file of a checkpoint.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

from export.checkpoints.bpe.files import BytePairs
from export.checkpoints.bpe.tokenizer_json import END_OF_WORD
from export.errors import CheckpointError

__all__ = ["END", "START", "open_clip_byte_pairs"]

# What open_clip calls them; the hub's files say <|startoftext|> and <|endoftext|>, which are plain text to open_clip.
START, END = "<start_of_text>", "<end_of_text>"
_FILE = "bpe_simple_vocab_16e6.txt.gz"
# The file holds more than were trained with.
_MERGES = 49152 - 256 - 2


def open_clip_byte_pairs(merges: int | None = None) -> BytePairs:
    """The tokens and merges of open_clip's `SimpleTokenizer`, in its order.

    Args:
        merges: how many of them, the commonest first, for models of a small vocabulary; None takes all.

    Raises:
        CheckpointError: open_clip is not installed.
    """
    spec = find_spec("open_clip")  # not imported: that takes PyTorch, and sets a variable of the environment
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError("CLIP's vocabulary is in open_clip. Install it with: pip install 'cxr-engine[export]'")
    packed = Path(spec.submodule_search_locations[0], _FILE).read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    pairs = [(first, second) for first, second in (line.split() for line in lines[:merges])]
    letters = sorted(ByteLevel.alphabet())  # `bytes_to_unicode`: those that stand for themselves come first
    words = [*letters, *(f"{letter}{END_OF_WORD}" for letter in letters), *map("".join, pairs), START, END]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    return BytePairs({word: index for index, word in enumerate(words)}, tuple(pairs), special, ())
