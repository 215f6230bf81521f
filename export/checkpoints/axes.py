"""What a checkpoint and its family's row say of the text tower, beside its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.checkpoints.modules import Modules
from export.checkpoints.vocabulary import read_vocabulary
from export.errors import CheckpointError
from export.families import TextAxes, TextModel
from runtime.bundle.parts import CUT, REFUSED, Tokenization

__all__ = ["read_axes"]

# Share of tokens with capital letters from which a vocabulary is cased; others have none but [unused1] and the like.
_CASED = 0.01


def read_axes(
    folder: Path, config: Mapping[str, Any], text: TextModel, modules: Modules | None, note: Callable[[str], None]
) -> TextAxes:
    """Decide what the family's row leaves to the checkpoint.

    Args:
        folder: with the tokenizer's files.
        config: the parsed config.json.
        text: the family's row.
        modules: what a folder of sentence-transformers says; None for others.
        note: takes remarks for the user.

    Raises:
        CheckpointError: the row and the folder disagree, or the tokenizer's files cannot be read.
    """
    positions = int(config["max_position_embeddings"])
    longest, too_long = positions, REFUSED
    pooling = text.pooling or "mean"
    prompts: Mapping[str, str] = {}
    default = dense = None
    if modules is not None:
        if text.pooling is not None and text.pooling != modules.pooling:
            raise CheckpointError(
                f"{folder} was trained with the pooling {modules.pooling!r}, as its modules say; {text.pooling!r} was "
                "asked for. Leave --pooling out."
            )
        pooling, prompts, default, dense = modules.pooling, modules.prompts, modules.default_prompt, modules.dense
        # sentence-transformers cuts, at the model's own limit if it is told of no other.
        longest, too_long = min(modules.max_length or positions, positions), CUT
        if dense is not None and dense.in_features != config["hidden_size"]:
            raise CheckpointError(
                f"{dense.weights.parent} takes {dense.in_features} values; the model gives {config['hidden_size']}."
            )
    elif text.pooling is None:
        note("no pooling is published with it: the mean of all tokens is taken; --pooling cls takes the first token")
    if text.lowercase is None and not (folder / "tokenizer_config.json").is_file():
        _say_casing(folder, config, note)
    return TextAxes(
        Tokenization("wordpiece", longest, too_long, text.cleaning, dict(prompts), default),
        pooling,
        "linear" if dense is not None else text.projection,
        text.lowercase,
        modules is not None and modules.lowercase,
    )


def _say_casing(folder: Path, config: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """Nothing says whether texts are lower-cased: transformers does, whatever the vocabulary."""
    files = read_vocabulary(folder, config)
    cased = sum(token != token.lower() for token in files.tokens if not token.startswith("["))
    if files.lowercase and cased > _CASED * len(files.tokens):
        note(
            f"texts are lower-cased, as transformers does where tokenizer_config.json is missing; {cased:,} tokens of "
            "the vocabulary have capital letters and are never met. If the model was trained on cased texts, "
            "--casing cased reads them as it did"
        )
