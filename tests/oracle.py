"""The reference implementation (package hi-ml-multimodal, by Microsoft), set up on a checkpoint in the hub's layout."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from health_multimodal.image import ImageInferenceEngine, ImageModel
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference
    from health_multimodal.text import TextInferenceEngine
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel
    from health_multimodal.vlp import ImageTextInferenceEngine


def reference_tokenizer(checkpoint: Path) -> BertTokenizer:
    """transformers' tokenizer. `from_pretrained`, since transformers 5 ignores BertTokenizer(vocab_file=…)."""
    tokenizer = BertTokenizer.from_pretrained(str(checkpoint))
    assert len(set(tokenizer("heart size is normal")["input_ids"])) > 3, "the oracle maps everything to [UNK]"
    if not hasattr(tokenizer, "batch_encode_plus"):  # transformers 5 removed what the reference calls
        tokenizer.batch_encode_plus = lambda batch_text_or_text_pairs, **options: tokenizer(
            batch_text_or_text_pairs, **options
        )
    return tokenizer


def reference_text_model(checkpoint: Path) -> CXRBertModel:
    """The reference's own class, loaded by transformers from the checkpoint's files."""
    config = CXRBertConfig.from_pretrained(str(checkpoint))
    model = CXRBertModel.from_pretrained(str(checkpoint), config=config).eval()
    state = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    name = "cls_projection_head.dense_to_output.weight"
    assert torch.equal(model.state_dict()[name], state[name]), "the oracle did not load the checkpoint's weights"
    return model


def reference_text_engine(checkpoint: Path) -> TextInferenceEngine:
    return TextInferenceEngine(reference_tokenizer(checkpoint), reference_text_model(checkpoint))


def reference_image_engine(weights: Path) -> ImageInferenceEngine:
    model = ImageModel("resnet50", joint_feature_size=128, pretrained_model_path=weights)
    return ImageInferenceEngine(model, create_chest_xray_transform_for_inference(512, 480))


def reference_engine(checkpoint: Path) -> ImageTextInferenceEngine:
    """The whole reference implementation: text, image and both together."""
    weights = checkpoint / "biovil_image_resnet50_proj_size_128.pt"
    return ImageTextInferenceEngine(reference_image_engine(weights), reference_text_engine(checkpoint))


def remember(engine: ImageTextInferenceEngine) -> ImageTextInferenceEngine:
    """Let the reference compute each image and each text once: its functions begin with the same, and so do engines.

    Its weights must not be changed afterwards.
    """
    images, texts = engine.image_inference_engine, engine.text_inference_engine
    images.load_and_transform_input_image = functools.cache(images.load_and_transform_input_image)
    images.model.forward = functools.cache(images.model.forward)  # tensors are told apart by identity
    texts.get_embeddings_from_prompt = _remember_prompts(texts.get_embeddings_from_prompt)
    return engine


def _remember_prompts(embed: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.cache
    def once(prompts: str | tuple[str, ...], **options: Any) -> torch.Tensor:
        return embed(prompts if isinstance(prompts, str) else list(prompts), **options)

    return lambda prompts, **options: once(prompts if isinstance(prompts, str) else tuple(prompts), **options)
