"""Texts through PyTorch as those run them who know GPUs: without padding, or as CUDA graphs.

On a processor, where neither can run, the same code computes attention text by text and compiles nothing: that is how
it is tested where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.peers.contract import BATCH, PROCESSOR, STRIPPED, Case, Open, Prepare, Run, Spec, in_batches, sorted_batches

__all__ = ["TORCH_GPU_TEXTS"]

# Lengths for which a CUDA graph is captured; longer texts are padded to a multiple of the last.
_LENGTHS = (16, 32, 64)

# Queries, keys, values (tokens, heads, size), int32 (texts + 1,) where texts begin and end, longest → as the queries.
_Attend = Callable[[Any, Any, Any, Any, int], Any]


def _unpadded(dtype: str) -> Open:
    """Rows laid end to end, and `torch.nn.attention.varlen` (FlashAttention) between the tokens of a text."""

    def start(spec: Spec) -> Prepare:
        import torch

        device, size = spec.get("device", PROCESSOR), spec.get("texts", BATCH)
        embed_rows = _without_padding(_model(spec, dtype), _by_text if device == PROCESSOR else _flash())
        tokenize = _tokenizer(spec)

        def prepare(case: Case) -> Run:
            texts = case["texts"]

            def run() -> Any:
                rows = tokenize(texts)

                def embed(places: list[int]) -> Any:
                    with torch.inference_mode():
                        return embed_rows([rows[place] for place in places], device).cpu().numpy()

                return sorted_batches([len(row) for row in rows], embed, size)

            return run

        return prepare

    return start


def _flash() -> _Attend:
    from torch.nn.attention.varlen import varlen_attn

    def attend(query: Any, key: Any, value: Any, ends: Any, longest: int) -> Any:
        return varlen_attn(query, key, value, ends, ends, longest, longest)

    return attend


def _by_text(query: Any, key: Any, value: Any, ends: Any, longest: int) -> Any:
    import torch

    found = []
    for start, end in zip(ends.tolist(), ends.tolist()[1:], strict=False):
        one = (each[start:end].transpose(0, 1) for each in (query, key, value))
        found.append(torch.nn.functional.scaled_dot_product_attention(*one).transpose(0, 1))
    return torch.cat(found)


def _without_padding(model: Any, attend: _Attend) -> Callable[[Sequence[Sequence[int]], str], Any]:
    """Rows of token ids → float32 (rows, D), unit norm; BERT's layers on (tokens, D)."""
    import torch

    bert = model.bert
    heads = bert.config.num_attention_heads

    def embed(rows: Sequence[Sequence[int]], device: str) -> Any:
        lengths = torch.tensor([len(row) for row in rows])
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        ids = torch.tensor([token for row in rows for token in row]).to(device)
        positions = torch.cat([torch.arange(len(row)) for row in rows]).to(device)
        places, longest = ends[:-1].long().to(device), max(map(len, rows))
        ends = ends.to(device)
        hidden = bert.embeddings(input_ids=ids[None], position_ids=positions[None])[0]
        for layer in bert.encoder.layer:
            own = layer.attention.self
            query, key, value = (
                linear(hidden).unflatten(-1, (heads, -1)) for linear in (own.query, own.key, own.value)
            )
            attended = layer.attention.output(attend(query, key, value, ends, longest).flatten(1), hidden)
            hidden = layer.output(layer.intermediate(attended), attended)
        projected = model.cls_projection_head(hidden[places])
        return torch.nn.functional.normalize(projected.float(), dim=-1)

    return embed


def _captured(dtype: str) -> Open:
    """`torch.compile(mode="reduce-overhead")`: a CUDA graph for each of a few lengths, a text at a time."""

    def start(spec: Spec) -> Prepare:
        import torch

        device, model = spec.get("device", PROCESSOR), _model(spec, dtype)
        compute = model.embed if device == PROCESSOR else torch.compile(model.embed, mode="reduce-overhead")
        tokenize = _tokenizer(spec)

        def prepare(case: Case) -> Run:
            texts = case["texts"]

            def embed(places: list[int]) -> Any:
                (row,) = tokenize([texts[place] for place in places])
                width = next((length for length in _LENGTHS if len(row) <= length), -(-len(row) // 64) * 64)
                ids, mask = torch.zeros(1, width, dtype=torch.int64), torch.zeros(1, width, dtype=torch.int64)
                ids[0, : len(row)], mask[0, : len(row)] = torch.tensor(row), 1
                with torch.inference_mode():
                    projected = compute(ids.to(device), mask.to(device)).float()
                    return torch.nn.functional.normalize(projected, dim=-1).cpu().numpy()

            return lambda: in_batches(len(texts), embed, 1)

        return prepare

    return start


def _model(spec: Spec, dtype: str) -> Any:
    import torch

    from bench.peers.cxr_bert import load_cxr_bert

    torch.set_num_threads(spec["threads"])
    model = load_cxr_bert(spec["checkpoint"], "sdpa").to(getattr(torch, dtype))
    return model.to(spec.get("device", PROCESSOR))


def _tokenizer(spec: Spec) -> Callable[[Sequence[str]], list[list[int]]]:
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(spec["checkpoint"])

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer([text.rstrip(STRIPPED) for text in texts])["input_ids"]
        return rows

    return tokenize


TORCH_GPU_TEXTS: Mapping[str, Mapping[str, Open]] = {
    "torch-varlen-fp32": {"texts": _unpadded("float32")},  # of tests: FlashAttention has no float32
    "torch-varlen-fp16": {"texts": _unpadded("float16")},
    "torch-graphs-fp16": {"texts": _captured("float16")},
    "torch-graphs-fp32": {"texts": _captured("float32")},
}
