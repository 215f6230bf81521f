"""A model of open_clip: open_clip_config.json, the weights of both towers, and the tokenizer's files if it has its own.

Sources: open_clip, `factory.py` (older spellings of keys), `model.py` (`CLIPVisionCfg`, `CLIPTextCfg` and their
defaults), `transform.py` (`PreprocessCfg`), `hf_model.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from export.checkpoints.layouts.layout import BOTH, Opened, missing_files
from export.checkpoints.layouts.open_clip_texts import open_clip_tokenization
from export.checkpoints.layouts.sizes import check_sizes
from export.checkpoints.signatures import read_json
from export.errors import CheckpointError
from export.families import Family, TextAxes
from runtime.bundle.parts import RGB_AFTER, Preprocessing

__all__ = ["CONFIG", "FILES", "bert_config", "open_open_clip"]

CONFIG = "open_clip_config.json"
# In open_clip's order of preference.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TOKENIZER = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
FILES = (CONFIG, *_WEIGHTS, *_TOKENIZER)

# The text models of the hub that configurations name; the class's own defaults fill in the rest, as upstream.
_BERT_BASE = MappingProxyType(
    {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
)
_TEXT_MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": _BERT_BASE,
        "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": _BERT_BASE,
        "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": _BERT_BASE,
        "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": _BERT_BASE,
        "bert-base-uncased": _BERT_BASE,
        "emilyalsentzer/Bio_ClinicalBERT": MappingProxyType({**_BERT_BASE, "vocab_size": 28996}),
    }
)
# hf_pooler_type → pooling.
_POOLERS = {"cls_last_hidden_state_pooler": "cls", "mean_pooler": "mean"}
_PROJECTIONS = {"mlp": "mlp", "linear": "linear", None: "none"}
# Key → the values that are exported; the first is upstream's default.
_IMAGE_KEYS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "attentional_pool": (False,),
        "no_ln_pre": (False,),
        "pos_embed_type": ("learnable",),
        "final_ln_after_pool": (False,),
        "pool_type": ("tok",),
        "ls_init_value": (None,),
        "block_type": (None, "default"),
        "qk_norm": (False,),
        "scaled_cosine_attn": (False,),
        "scale_heads": (False,),
        "scale_attn_inner": (False,),
        "scale_attn": (False,),
        "scale_fc": (False,),
        "norm_kwargs": (None, {}),
        "act_kwargs": (None, {}),
    }
)
_TEXT_KEYS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        **{key: values for key, values in _IMAGE_KEYS.items() if key.startswith(("ls", "bl", "qk", "sc", "no", "ac"))},
        "no_causal_mask": (False,),
        "embed_cls": (False,),
        "pool_type": ("argmax",),
        "proj_type": ("linear",),
        "proj_bias": (False,),
        "final_ln_after_pool": (False,),
    }
)
_TIMM_KEYS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"timm_pool": ("", "token"), "timm_proj": ("linear",), "timm_proj_bias": (False,)}
)
_LARGEST = 4096


def open_open_clip(
    folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]
) -> Opened:
    """See `Layout.open`."""
    assert family.image is not None, "a family of two towers"
    weights = [name for name in _WEIGHTS if name in names]
    path = folder / CONFIG
    whole = read_json(path)
    config = whole.get("model_cfg", whole)
    text, vision = config.get("text_cfg"), config.get("vision_cfg")
    if not isinstance(config, dict) or not isinstance(text, dict) or not isinstance(vision, dict):
        raise CheckpointError(
            f"{path} describes no model of two towers: model_cfg with text_cfg and vision_cfg is expected."
        )
    text = _renamed_keys(text)
    _check(path, config, text, vision)
    faults = [] if weights else [" or ".join(_WEIGHTS)]
    bert = bert_config(path, text) if "hf_model_name" in text else None
    if bert is not None and not {"tokenizer.json", "vocab.txt"} & names:
        faults.append("tokenizer.json or vocab.txt")
    if faults:
        layout = (
            f"The layout expected is that of {family.hub.repo} on the hub." if family.hub else "open_clip writes it."
        )
        raise missing_files(folder, family.name, faults, layout, cached, "")
    rule = _preprocessing(path, whole.get("preprocess_cfg") or {}, vision, family.image.preprocessing)
    patch, size = _patch(path, vision), int(config["embed_dim"])
    if family.hub and family.text and (family.text.pooling == "eos") != (bert is None):
        raise CheckpointError(
            f"{path}: the text tower is {'open_clip’s own' if bert is None else text['hf_model_name']}, which "
            f"'{family.name}' has not."
        )
    image = replace(family.image, preprocessing=rule, patch=patch, embedding_size=size)
    check_sizes(folder, family, image, _side(vision))
    rules = open_clip_tokenization(path, text)
    if bert is None:
        axes = TextAxes(rules, "eos", "linear")
        described = {
            "model_type": "clip_text_model",
            "vocab_size": text.get("vocab_size", 49408),
            "hidden_size": text.get("width", 512),
            "intermediate_size": int(text.get("width", 512) * text.get("mlp_ratio", 4.0)),
            "projection_dim": size,
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "max_position_embeddings": rules.max_length,
            "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
            "layer_norm_eps": 1e-5,
        }
    else:
        pooling, projection = _POOLERS[text["hf_pooler_type"]], _PROJECTIONS[text.get("hf_proj_type")]
        axes = TextAxes(rules, pooling, projection)
        described = dict(bert)
    model = {**config, "text_cfg": text}
    return Opened(folder, {BOTH: folder / weights[0]}, model, axes, image, text_config=described)


def bert_config(path: Path, text: Mapping[str, Any]) -> Mapping[str, Any]:
    """config.json of the text model that a configuration names: of a folder, or one that is known.

    Raises:
        CheckpointError: it is no folder, and not known; those that are known are named.
    """
    name = str(text["hf_model_name"])
    folder = Path(name) if Path(name).is_absolute() else path.parent / name
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    if name not in _TEXT_MODELS:
        close = difflib.get_close_matches(name, _TEXT_MODELS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise CheckpointError(
            f"{path}: hf_model_name={name!r} is not known here.{hint} Known are {', '.join(_TEXT_MODELS)}; of another "
            "BERT give a folder with its config.json."
        )
    return _TEXT_MODELS[name]


def _renamed_keys(text: Mapping[str, Any]) -> dict[str, Any]:
    """Today's names of keys; older configurations of text models of the hub say "proj" and "pooler_type"."""
    older = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"} if "hf_model_name" in text else {}
    return {older.get(key, key): value for key, value in text.items()}


def _check(path: Path, config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a configuration asks for what is not exported; all of that is listed."""
    wrong = []
    if type(config.get("embed_dim")) is not int or config["embed_dim"] < 1:
        wrong.append(f"embed_dim={config.get('embed_dim')!r}")
    if config.get("multimodal_cfg"):
        wrong.append("multimodal_cfg (CoCa)")
    known = [("vision_cfg", vision, _TIMM_KEYS if "timm_model_name" in vision else _IMAGE_KEYS)]
    if "hf_model_name" not in text:
        known.append(("text_cfg", text, _TEXT_KEYS))
    for name, tower, keys in known:
        for key, values in keys.items():
            if tower.get(key, values[0]) not in values:
                wrong.append(f"{name}.{key}={tower[key]!r} ({' or '.join(map(repr, values))} is exported)")
    if isinstance(vision.get("layers"), list):
        wrong.append("vision_cfg.layers is a list: CLIP's ResNets are not exported, vision transformers are")
    if "hf_model_name" in text:
        pooler, projection = text.get("hf_pooler_type"), text.get("hf_proj_type")
        if pooler not in _POOLERS:
            wrong.append(f"text_cfg.hf_pooler_type={pooler!r} ({' or '.join(_POOLERS)} is exported)")
        if projection not in _PROJECTIONS:
            wrong.append(f"text_cfg.hf_proj_type={projection!r} (mlp or linear is exported)")
    for name, tower, sizes in (
        ("vision_cfg", vision, ("width", "layers", "patch_size", "image_size", "head_width")),
        ("text_cfg", text, ("width", "layers", "heads", "vocab_size", "context_length")),
    ):
        wrong += [
            f"{name}.{key}={tower[key]!r}"
            for key in sizes
            if key in tower and not isinstance(tower[key], list) and (type(tower[key]) is not int or tower[key] < 1)
        ]
    if _side(vision) < 1 or _side(vision) > _LARGEST:
        wrong.append(f"vision_cfg.image_size={vision.get('image_size')!r} (a square is expected)")
    if wrong:
        raise CheckpointError(f"{path} describes a model that is not exported: {'; '.join(wrong)}.")


def _side(vision: Mapping[str, Any]) -> int:
    """Of the square of pixels; 0 where it is none."""
    side = vision.get("image_size", 224)
    sides = side if isinstance(side, list) else [side, side]
    return int(sides[0]) if len(sides) == 2 and sides[0] == sides[1] and type(sides[0]) is int else 0


def _patch(path: Path, vision: Mapping[str, Any]) -> int:
    name = vision.get("timm_model_name")
    if name is None:
        return int(vision.get("patch_size", 16))
    import timm

    plain = str(name).partition(".")[0]
    known = timm.list_models("vit_*_patch*")
    if plain not in known:
        close = difflib.get_close_matches(plain, known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise CheckpointError(
            f"{path}: timm_model_name={name!r} is no vision transformer that timm {timm.__version__} knows.{hint} Its "
            "models vit_…_patch… with a class token are exported, such as vit_base_patch16_224."
        )
    return int(plain.partition("_patch")[2].split("_")[0])


def _preprocessing(
    path: Path, given: Mapping[str, Any], vision: Mapping[str, Any], default: Preprocessing
) -> Preprocessing:
    """The rule of a "preprocess_cfg", upstream's defaults filled in."""
    wrong = [
        f"{key}={given[key]!r}" for key, value in (("mode", "RGB"), ("fill_color", 0)) if given.get(key, value) != value
    ]
    size = given.get("size", _side(vision))
    sides = size if isinstance(size, list) else [size, size]
    resize, interpolation = given.get("resize_mode") or "shortest", given.get("interpolation") or "bicubic"
    if len(set(map(str, sides))) != 1 or type(sides[0]) is not int:
        wrong.append(f"size={size!r}")
    if resize not in ("shortest", "squash"):
        wrong.append(f"resize_mode={resize!r}")
    if interpolation not in ("bicubic", "bilinear"):
        wrong.append(f"interpolation={interpolation!r}")
    statistics = []
    for key in ("mean", "std"):
        found = given.get(key) or list(getattr(default, key))
        found = found if isinstance(found, list) else [found] * 3
        if (
            len(found) != 3
            or not all(isinstance(each, int | float) for each in found)
            or (key == "std" and not all(found))
        ):
            wrong.append(f"{key}={given.get(key)!r}")
        statistics.append(tuple(map(float, found)))
    if wrong:
        raise CheckpointError(f"{path} prepares images in a way that is not exported: {', '.join(wrong)}.")
    mean, std = statistics
    return Preprocessing(RGB_AFTER, resize, sides[0], interpolation, sides[0], "even", mean, std)
