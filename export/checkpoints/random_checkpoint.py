"""Write an untrained, seeded checkpoint in the hub's exact layout: file names, tensor names, shapes.

It stands in for the real weights where those cannot ship: in the demo and in tests. Its embeddings mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BertModel

from export.checkpoints import RANDOM_MARKER
from export.checkpoints.random_two_towers import TWO_TOWERS, sizes_of
from export.checkpoints.tokenizer import write_json
from export.checkpoints.vocabulary import SPECIAL_TOKENS
from export.checkpoints.words import random_vocabulary
from export.families import Family
from export.reference.image import normalized
from export.samples import chest_phantom
from runtime.bundle.parts import Preprocessing

__all__ = ["CXR_BERT_CONFIG", "RANDOM_MARKER", "random_vocabulary", "write_random_checkpoint"]

_MODEL_CLASS = "modeling_cxrbert.CXRBertModel"
# config.json of microsoft/BiomedVLP-CXR-BERT-specialized, less the path it was trained in.
CXR_BERT_CONFIG: Mapping[str, Any] = {
    "_name_or_path": "microsoft/BiomedVLP-CXR-BERT-specialized",
    "architectures": ["CXRBertModel"],
    "attention_probs_dropout_prob": 0.25,
    "auto_map": {
        "AutoConfig": "configuration_cxrbert.CXRBertConfig",
        "AutoModel": _MODEL_CLASS,
    },
    "classifier_dropout": None,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.25,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "cxr-bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "projection_size": 128,
    "torch_dtype": "float32",
    "transformers_version": "4.18.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}

_FIT_SIDE = 192
_FIT_OPACITIES = (None, (0.3, 0.3), (0.6, 0.7))
_FIT_NOISE_CELLS = (4, 12, 48)

_TOKENIZER_CONFIG = {
    "do_lower_case": True,
    "do_basic_tokenize": True,
    "never_split": None,
    **SPECIAL_TOKENS,
    "tokenize_chinese_chars": True,
    "strip_accents": None,
    "tokenizer_file": None,
    "tokenizer_class": "CXRBertTokenizer",
    "auto_map": {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]},
}


def write_random_checkpoint(
    folder: Path,
    family: Family,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    *,
    safetensors: bool = False,
) -> Path:
    """Write the checkpoint of a family.

    Args:
        folder: created if need be.
        family: which parts to write.
        seed: seed of all weights; the same seed gives the same tensors.
        config: config.json of the text model, whose numbers are its sizes, or the file that describes both towers where
            their weights lie in one; None takes what is published: CXR-BERT-specialized's for all BERTs.
        safetensors: write model.safetensors instead of pytorch_model.bin.

    Returns:
        The folder.
    """
    from export.reference import build_image_model, untrained_text

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RANDOM_MARKER, {"seed": seed})
    if family.layout == "clip":
        from export.checkpoints.random_clip import write_random_clip

        write_random_clip(folder, family, seed, config)
        return folder
    config = CXR_BERT_CONFIG if config is None else config
    generator = torch.Generator().manual_seed(seed)
    if family.layout in TWO_TOWERS:
        _write_two_towers(folder, family, sizes_of(config), generator, seed)
        return folder
    if family.text:
        own_head = family.text.projection == "cxr-bert"
        if own_head:
            write_json(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
            write_json(folder / "special_tokens_map.json", SPECIAL_TOKENS)
            if family.text.model_types[0] == "bert":  # as BioViL-T's at its published revision
                config = {**config, "model_type": "bert", "auto_map": {"AutoModel": _MODEL_CLASS}}
        else:  # a plain BERT in fewer files
            own = ("_name_or_path", "auto_map", "projection_size")
            config = {key: value for key, value in config.items() if key not in own}
            config |= {"architectures": ["BertForMaskedLM"], "model_type": family.text.model_types[0]}
            write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
        write_json(folder / "config.json", dict(config))
        vocabulary = random_vocabulary(config["vocab_size"])
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
        with torch.device("meta"):
            shapes = untrained_text(config, family.text.projection).state_dict()
        hidden, unread = config["hidden_size"], dict[str, tuple[int, ...]]()
        if config.get("model_type", "bert") == "bert":
            unread |= {"bert.pooler.dense.weight": (hidden, hidden), "bert.pooler.dense.bias": (hidden,)}
        if not own_head:
            unread |= {"cls.seq_relationship.weight": (2, hidden), "cls.seq_relationship.bias": (2,)}
        shapes |= {name: torch.empty(shape, device="meta") for name, shape in unread.items()}
        tensors = {name: _random_text_tensor(name, value, generator) for name, value in shapes.items()}
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
        if safetensors:
            from safetensors.torch import save_file

            # Like transformers, which does not write tied tensors twice.
            tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
            save_file(
                {name: value for name, value in tensors.items() if name not in tied}, folder / "model.safetensors"
            )
        else:
            # A buffer that transformers 4.18 still wrote, and that the published file carries.
            tensors["bert.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
            torch.save(tensors, folder / "pytorch_model.bin")
    if family.image:
        image_model = build_image_model(family.image)
        shapes = image_model.state_dict()
        image_model.load_state_dict(
            {name: _random_image_tensor(name, value, generator) for name, value in shapes.items()}
        )
        _fit_normalization(image_model, family.image.preprocessing, seed)
        torch.save(image_model.state_dict(), folder / family.image.weights_name)
    return folder


def _write_two_towers(
    folder: Path, family: Family, config: Mapping[str, Any], generator: torch.Generator, seed: int
) -> None:
    """GLoRIA's or ConVIRT's checkpoint."""
    assert family.image is not None, "they have both towers"
    untrained, write = TWO_TOWERS[family.layout]
    towers = untrained(config, family.image)
    for tower in towers.values():
        fill = _random_text_tensor if isinstance(tower, BertModel) else _random_image_tensor
        with torch.no_grad():
            for name, value in tower.state_dict().items():
                if value.is_floating_point():
                    value.copy_(fill(name, value, generator))
        if any(isinstance(module, torch.nn.BatchNorm2d) for module in tower.modules()):
            _fit_normalization(tower, family.image.preprocessing, seed)
    vocabulary = random_vocabulary(config["vocab_size"])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    tensors = {prefix + name: value for prefix, tower in towers.items() for name, value in tower.state_dict().items()}
    write(folder, config, tensors)


def _random_text_tensor(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(like.shape, generator=generator)
    if name.endswith("LayerNorm.weight"):
        return 1 + 0.1 * noise
    # Wider than BERT's initial 0.02: with that, every sentence has nearly the same embedding and no comparison of
    # embeddings would notice a fault.
    return (0.05 if name.endswith("weight") else 0.02) * noise


def _random_image_tensor(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if like.ndim == 4:
        fan_in = math.prod(like.shape[1:])
        return torch.randn(like.shape, generator=generator) * math.sqrt(2 / fan_in)
    if name.endswith("running_var") or (name.endswith("weight") and like.ndim == 1):
        scale = 0.5 + torch.rand(like.shape, generator=generator)
        # As in trained networks, a block changes little of what passes by it; with full weight, rounding errors grow
        # from block to block until no two implementations agree.
        return 0.15 * scale if name.endswith("bn3.weight") else scale
    return 0.1 * torch.randn(like.shape, generator=generator)


def _fit_normalization(model: torch.nn.Module, rule: Preprocessing, seed: int) -> None:
    """Set the batch normalizations' statistics to those of phantoms and noise; else all images embed alike."""
    generator = np.random.default_rng(seed)
    images = [chest_phantom(_FIT_SIDE, _FIT_SIDE, seed + index, at) for index, at in enumerate(_FIT_OPACITIES)]
    for cells in _FIT_NOISE_CELLS:
        noise = Image.fromarray(generator.integers(0, 256, (cells, cells), dtype=np.uint8))
        images.append(np.asarray(noise.resize((_FIT_SIDE, _FIT_SIDE), Image.Resampling.BICUBIC)))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(normalized(torch.from_numpy(np.stack(images)), rule))
    model.eval()
