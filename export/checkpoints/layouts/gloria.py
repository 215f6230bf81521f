"""GLoRIA's published checkpoint: a file of PyTorch Lightning with both towers and OmegaConf's configuration objects.

The file is read by `export.checkpoints.inert_weights`, which runs and imports nothing of it. It holds no tokenizer:
GLoRIA takes that of Bio_ClinicalBERT from the hub each time it is loaded. Here files beside the checkpoint are taken,
and the hub's at a pinned commit where there are none.

Source: GLoRIA, `gloria/gloria.py` (`load_gloria`), `gloria/lightning/pretrain_model.py`, `configs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from export.checkpoints.config import read_config
from export.checkpoints.hub import download
from export.checkpoints.inert_pickle import Record
from export.checkpoints.inert_weights import StoredTensor, read_inert
from export.checkpoints.layouts.layout import BOTH, Layout, Opened, Tensors, missing_files
from export.checkpoints.places import found_instead
from export.checkpoints.vocabulary import TOKENIZER_FILES
from export.errors import CheckpointError
from export.families import FAMILIES, Family, JointModel, TextAxes
from runtime.bundle.parts import CUT, SENTENCES, Tokenization
from runtime.process.wording import few

__all__ = ["BERT_BASE", "GLORIA", "LONGEST", "SETTINGS", "read_gloria"]

ENDING = ".ckpt"
LONGEST = 97
_LAYERS = "layers"
_BERT = "bio-clinicalbert"
# config.json of emilyalsentzer/Bio_ClinicalBERT.
BERT_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "bert",
        "vocab_size": 28996,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
    }
)
# Of its configuration what changes embeddings, as it was published: "a.b.c" → value. Its temperatures are not read:
# GLoRIA's own `get_local_similarities` has numbers in their place.
SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "model.text.last_n_layers": 4,
        "model.text.aggregate_method": "sum",
        "model.text.agg_tokens": True,
        "model.text.norm": False,
        "model.vision.model_name": "resnet_50",
        "data.text.word_num": LONGEST,
        "data.image.imsize": 256,
        "transforms.norm": "half",
        "transforms.random_crop.crop_size": 224,
    }
)
_UNSET = object()


def read_gloria(path: Path, note: Callable[[str], None] = lambda _: None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, by their names below `gloria.`.

    Args:
        path: of the file; a state dict saved alone is read, too.
        note: takes remarks for the user.

    Raises:
        CheckpointError: see `read_inert`; or no state dict, or floating-point numbers that are none.
    """
    read = read_inert(path)
    stored = _state_dict(path, read.content)
    if read.content is not stored:
        others = few([str(key) for key in read.content if key != "state_dict"])
        note(f"{path.name}: weights are taken from 'state_dict'; not run, not imported and left out: {others}")
    found = read.tensors({name.split("gloria.")[-1]: each for name, each in stored.items()})
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def _state_dict(path: Path, content: Any) -> dict[str, StoredTensor]:
    found = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise CheckpointError(f"{path} holds no state dict, alone or as Lightning's 'state_dict'.")
    other = [name for name, value in found.items() if not isinstance(value, StoredTensor)]
    if other:
        raise CheckpointError(f"{path} is no checkpoint of GLoRIA: {few(other)} of its state dict are no tensors.")
    return found


def setting(configuration: Any, name: str) -> Any:
    """A value of OmegaConf's or Lightning's objects, or of a plain dictionary, by its path.

    Args:
        configuration: as `read_inert` gives it.
        name: such as "model.text.norm".

    Returns:
        The value, or a marker that equals nothing else where there is none.
    """
    found = configuration
    for key in name.split("."):
        if isinstance(found, Record):
            state = found.state if isinstance(found.state, dict) else {}
            found = state.get("_content", found.items)
        found = found.get(key, _UNSET) if isinstance(found, dict) else _UNSET
    if isinstance(found, Record) and isinstance(found.state, dict):
        found = found.state.get("_val", _UNSET)
    return found


def _check_settings(path: Path) -> None:
    """Raise where a model was trained with other settings than the published one; what is not said is as published."""
    content = read_inert(path).content
    configuration = content.get("hyper_parameters") if isinstance(content, dict) else None
    others = [
        f"{name} is {found if isinstance(found, str | int | float) else type(found).__name__!r}, {value!r} is expected"
        for name, value in SETTINGS.items()
        if (found := setting(configuration, name)) is not _UNSET and (type(found), found) != (type(value), value)
    ]
    if others:
        raise CheckpointError(
            f"{path} was trained with other settings than GLoRIA's published ResNet-50: {'; '.join(others)}. Only "
            "models with these are exported."
        )


def _wanted(family: Family) -> list[str]:
    return [f"*{ENDING}", "config.json", *TOKENIZER_FILES]


def _open(folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]) -> Opened:
    assert family.text is not None, "the layout is of two towers"
    files = sorted(name for name in names if name.endswith(ENDING))
    if not files:
        layout = "A file of PyTorch Lightning is expected, such as chexpert_resnet50.ckpt, or a folder with it."
        raise missing_files(folder, family.name, [f"*{ENDING}"], layout, cached, found_instead(folder, names))
    if len(files) > 1:
        raise CheckpointError(
            f"{folder} holds {len(files)} checkpoints: {few(files)}. Give the file: --checkpoint FILE"
        )
    path = folder / files[0]
    _check_settings(path)
    words = folder if names & {"vocab.txt", "tokenizer.json"} else _fetched(path, note)
    config = dict(read_config(words / "config.json", family.text) if (words / "config.json").is_file() else BERT_BASE)
    tokenization = Tokenization("wordpiece", LONGEST, CUT, SENTENCES, {}, None)
    axes = TextAxes(tokenization, _LAYERS, "none", lowercase=True)
    return Opened(words, {BOTH: path}, config, axes, family.image, text_config=config)


def _fetched(path: Path, note: Callable[[str], None]) -> Path:
    hub = FAMILIES[_BERT].hub
    assert hub is not None, "it is pinned"
    try:
        words, _ = download(hub.repo, hub.revision, ["config.json", *TOKENIZER_FILES], note)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path.name} holds no tokenizer, and that of {hub.repo} cannot be had: {error} Or put its vocab.txt "
            "beside the checkpoint."
        ) from None
    note(f"the tokenizer is that of {hub.repo}, as GLoRIA takes it: there is none beside {path.name}")
    return words


def _joint(family: Family, tensors: Mapping[str, Tensors]) -> JointModel | None:
    return family.joint


GLORIA = Layout(_wanted, _open, _joint, read=read_gloria, single=ENDING)
