"""The text network in PyTorch, on the weights that a bundle was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.references import load_reference
from runtime.engine import Engine
from runtime.text.masked_accuracy import choose_masks

__all__ = ["torch_masked_accuracy", "torch_texts"]

_BATCH = 32


def torch_texts(
    engine: Engine, checkpoint: Path, threads: int, normalize: bool = True
) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Texts → float32 (N, D), unit L2 norm unless not `normalize`, by PyTorch in fp32 and upstream's tokenizer.

    Raises:
        InputError: the checkpoint holds other weights than the bundle was made of.
    """
    import torch

    from export.families import TextAxes
    from export.proof.upstream_tokens import upstream_tokenizers

    torch.set_num_threads(threads)
    network, folder = load_reference(engine.manifest, checkpoint, "text")
    part = engine.manifest.text
    assert part is not None, "an engine with a text part"
    upstream, *_ = upstream_tokenizers(folder, TextAxes(part.tokenization, part.pooling, part.projection))
    prompt, padding = engine.text.tokenizer.prompt(None), engine.text.tokenizer.pad_token_id

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for start in range(0, len(texts), _BATCH):
            rows = upstream.encode([prompt + text for text in texts[start : start + _BATCH]])
            projected = network.embed(*_padded(rows, padding))
            found.append((torch.nn.functional.normalize(projected, dim=-1) if normalize else projected).numpy())
        return np.concatenate(found)

    return encode


def torch_masked_accuracy(
    engine: Engine, checkpoint: Path, threads: int, texts: Sequence[str], share: float, one_at_a_time: bool, seed: int
) -> tuple[int, int]:
    """The same tokens masked as by `TextEncoder.masked_token_accuracy`, asked of PyTorch in fp32.

    Args:
        engine: tokenizes the texts and chooses the masks.
        checkpoint: of its weights.
        threads: of PyTorch.
        texts: all of them, those that cannot be used among them, since a text's masks depend on its position.
        share: see `choose_masks`.
        one_at_a_time: see `choose_masks`.
        seed: see `choose_masks`.

    Returns:
        Masked tokens that it puts first, and masked tokens.

    Raises:
        InputError: the checkpoint holds other weights than the bundle was made of.
    """
    import torch

    torch.set_num_threads(threads)
    network = load_reference(engine.manifest, checkpoint, "text").model
    tokenizer, mask = engine.text.tokenizer, engine.text.tokenizer.required_mask()
    rows, faults = tokenizer.try_encode(list(texts), clean=False)
    bad = {fault.index for fault in faults}
    whole = [
        (row, positions)
        for index, row in enumerate(rows)
        if index not in bad and mask not in row
        for positions in choose_masks(row, tokenizer.special_ids, index, share, one_at_a_time, seed)
    ]
    correct = masked = 0
    for start in range(0, len(whole), _BATCH):
        batch = whole[start : start + _BATCH]
        truth = [torch.tensor(row) for row, _ in batch]
        input_ids, attention_mask = _padded([row for row, _ in batch], tokenizer.pad_token_id)
        for each, (_, positions) in zip(input_ids, batch, strict=True):
            each[positions] = mask
        with torch.inference_mode():
            best = network.logits(input_ids, attention_mask).argmax(dim=-1)
        for row, (found, (_, positions)) in zip(truth, zip(best, batch, strict=True), strict=True):
            correct += int((found[positions] == row[positions]).sum())
            masked += len(positions)
    return correct, masked


def _padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Any, Any]:
    """int64 input_ids and attention_mask (texts, the longest one's tokens)."""
    import torch

    texts = [torch.tensor(row) for row in rows]
    input_ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=padding)
    return input_ids, (torch.arange(input_ids.shape[1]) < torch.tensor([[len(row)] for row in rows])).long()
