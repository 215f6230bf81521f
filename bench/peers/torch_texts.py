"""Texts and masks through PyTorch, on the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.peers.contract import (
    BATCH,
    PROCESSOR,
    STRIPPED,
    TOP,
    Case,
    Open,
    Prepare,
    Run,
    Spec,
    in_batches,
    masks_answer,
    sorted_batches,
)

__all__ = ["TORCH_TEXTS"]


def _reference(spec: Spec) -> Prepare:
    """hi-ml-multimodal's model as it runs: fp32, file order, the masked-language head computed and thrown away."""
    import torch
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    torch.set_num_threads(spec["threads"])
    config = CXRBertConfig.from_pretrained(spec["checkpoint"])
    device = spec.get("device", PROCESSOR)
    model = CXRBertModel.from_pretrained(spec["checkpoint"], config=config).eval().to(device)
    encode = _tokenizer(spec)

    def prepare(case: Case) -> Run:
        texts = case["texts"]

        def embed(places: list[int]) -> Any:
            batch = encode([texts[place] for place in places], padding=True, return_tensors="pt").to(device)
            with torch.inference_mode():
                return model.get_projected_text_embeddings(batch["input_ids"], batch["attention_mask"]).cpu().numpy()

        return lambda: in_batches(len(texts), embed)

    return prepare


def _tuned(dtype: str, compiled: bool = False) -> Open:
    """PyTorch as those who know it run it: the embedding alone, scaled-dot-product attention, sorted by length."""

    def start(spec: Spec) -> Prepare:
        import torch

        encode, embed_batch = _tokenizer(spec), _projection(spec, dtype, compiled)
        device, size = spec.get("device", PROCESSOR), spec.get("texts", BATCH)

        def prepare(case: Case) -> Run:
            texts = case["texts"]

            def run() -> Any:
                rows = encode(texts)["input_ids"]

                def embed(places: list[int]) -> Any:
                    batch = encode.pad([rows[place] for place in places]).to(device)
                    with torch.inference_mode():
                        return embed_batch(batch["input_ids"], batch["attention_mask"]).cpu().numpy()

                return sorted_batches([len(row) for row in rows], embed, size)

            return run

        return prepare

    return start


def _projection(spec: Spec, dtype: str, compiled: bool) -> Callable[..., Any]:
    import torch

    from bench.peers.cxr_bert import load_cxr_bert

    torch.set_num_threads(spec["threads"])
    model = load_cxr_bert(spec["checkpoint"], "sdpa").to(getattr(torch, dtype))
    model = model.to(spec.get("device", PROCESSOR))
    embed = torch.compile(model.embed, dynamic=True) if compiled else model.embed
    return lambda ids, mask: torch.nn.functional.normalize(embed(ids, mask).float(), dim=-1)


class _Encode:
    """transformers' tokenizer with the reference's treatment of trailing punctuation."""

    def __init__(self, folder: str) -> None:
        from transformers import BertTokenizer

        self._tokenizer = BertTokenizer.from_pretrained(folder)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        return self._tokenizer([text.rstrip(STRIPPED) for text in texts], **options)

    def pad(self, rows: list[list[int]]) -> Any:
        return self._tokenizer.pad({"input_ids": rows}, return_tensors="pt")


def _tokenizer(spec: Spec) -> _Encode:
    return _Encode(spec["checkpoint"])


def _transformers_masks(spec: Spec) -> Prepare:
    """transformers' own fill-mask pipeline in PyTorch fp32, all texts in one batch."""
    import torch
    from transformers import BertForMaskedLM, BertTokenizer, FillMaskPipeline
    from transformers.utils import logging

    torch.set_num_threads(spec["threads"])
    logging.set_verbosity_error()
    tokenizer = BertTokenizer.from_pretrained(spec["checkpoint"])
    model = BertForMaskedLM.from_pretrained(spec["checkpoint"]).eval()

    def prepare(case: Case) -> Run:
        texts = case["texts"]
        pipeline = FillMaskPipeline(model=model, tokenizer=tokenizer, batch_size=len(texts))
        return lambda: masks_answer(pipeline(texts, top_k=TOP))

    return prepare


TORCH_TEXTS: Mapping[str, Mapping[str, Open]] = {
    "reference": {"texts": _reference, "masks": _transformers_masks},
    "torch-fp32": {"texts": _tuned("float32")},
    "torch-bf16": {"texts": _tuned("bfloat16")},
    "torch-compile": {"texts": _tuned("float32", compiled=True)},
    "torch-compile-bf16": {"texts": _tuned("bfloat16", compiled=True)},
    "torch-fp16": {"texts": _tuned("float16")},
    "torch-compile-fp16": {"texts": _tuned("float16", compiled=True)},
}
