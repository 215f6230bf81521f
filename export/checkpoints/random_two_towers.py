"""Untrained checkpoints of GLoRIA and ConVIRT in their exact layouts; see `export.checkpoints.random_checkpoint`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import BertModel

from export.checkpoints.layouts.convirt import WEIGHTS
from export.checkpoints.layouts.gloria import BERT_BASE, SETTINGS
from export.checkpoints.tokenizer import write_json
from export.families import ImageModel
from export.reference import bert_config
from export.reference.gloria import ConvirtImage, GloriaImage, two_layers

__all__ = ["GLORIA_FILE", "TWO_TOWERS", "sizes_of"]

GLORIA_FILE = "chexpert_resnet50.ckpt"
# As it was published; what else there is in such a file is left out by the reader.
_LIGHTNING = {"epoch": 17, "global_step": 72_000, "pytorch-lightning_version": "1.1.4", "hparams_name": "cfg"}


def sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A BERT's config.json of these checkpoints, with the sizes of another one."""
    return {key: config.get(key, value) for key, value in BERT_BASE.items()} | {"model_type": "bert"}


def _untrained_gloria(config: Mapping[str, Any], image: ImageModel) -> dict[str, nn.Module]:
    """Prefix in the checkpoint → module."""
    return {
        "gloria.text_encoder.model.": BertModel(bert_config(config)),
        "gloria.img_encoder.": GloriaImage(image.blocks, image.embedding_size),
    }


def _untrained_convirt(config: Mapping[str, Any], image: ImageModel) -> dict[str, nn.Module]:
    """Prefix in the checkpoint → module."""
    model = ConvirtImage(image.blocks, image.embedding_size)
    return {
        "text_encoder.": BertModel(bert_config(config), add_pooling_layer=False),
        "text_projection.": two_layers(int(config["hidden_size"]), image.embedding_size),
        "image_encoder.": model.model,
        "image_projection.": model.projection,
    }


def _write_gloria(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file as PyTorch Lightning 1.1 and OmegaConf 2.0 do, and config.json of the BERT beside it.

    Neither is installed: their classes are named in the pickle, as they would be, and never imported.
    """
    write_json(folder / "config.json", dict(config))
    content = {
        **_LIGHTNING,
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 5e-5, "params": [0, 1]}]}],
        "lr_schedulers": [],
        "state_dict": dict(tensors),
        "hyper_parameters": _configuration(SETTINGS),
    }
    torch.save(content, folder / GLORIA_FILE, pickle_module=SimpleNamespace(__name__="pickle", Pickler=_ForeignPickler))


def _write_convirt(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write model.safetensors and config.json."""
    from safetensors.torch import save_file

    write_json(folder / "config.json", {**config, "model_type": "convirt"})
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)


class _Foreign:
    """An object of a class of another package."""

    module = name = ""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class _DictConfig(_Foreign):
    module, name = "omegaconf.dictconfig", "DictConfig"


class _AnyNode(_Foreign):
    module, name = "omegaconf.nodes", "AnyNode"


class _Metadata(_Foreign):
    module, name = "omegaconf.base", "ContainerMetadata"

    def __init__(self, key: str | None, object_type: type | None = None) -> None:
        super().__init__(ref_type=Any, object_type=object_type, optional=True, key=key, flags={})
        if object_type is not None:
            self.__dict__ |= {"key_type": Any, "element_type": Any}


# Python's own in Python, whose way of naming classes can be replaced.
_PICKLER: Any = pickle._Pickler


class _ForeignPickler(_PICKLER):  # type: ignore[misc]
    """Names these classes by what they stand for; Python's own looks whether they can be imported."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """See `pickle._Pickler`."""
        if isinstance(obj, type) and issubclass(obj, _Foreign):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    def save_type(self, obj: Any) -> None:
        """See `pickle._Pickler`."""
        self.save_global(obj)

    dispatch = _PICKLER.dispatch | {type: save_type}


def _configuration(settings: Mapping[str, Any]) -> _DictConfig:
    """OmegaConf's objects for "a.b.c" → value: each knows the one around it."""
    root = _DictConfig(_metadata=_Metadata(None, dict), _parent=None, _content={})
    for path, value in settings.items():
        *outer, last = path.split(".")
        place = root
        for key in outer:
            inner = _DictConfig(_metadata=_Metadata(key, dict), _parent=place, _content={})
            place = place.__dict__["_content"].setdefault(key, inner)
        place.__dict__["_content"][last] = _AnyNode(_metadata=_Metadata(last), _parent=place, _val=value)
    return root


_Untrained = Callable[[Mapping[str, Any], ImageModel], dict[str, nn.Module]]
_Write = Callable[[Path, Mapping[str, Any], Mapping[str, torch.Tensor]], None]
# Layout → its modules by the prefixes of their tensors, and what writes those.
TWO_TOWERS: Mapping[str, tuple[_Untrained, _Write]] = MappingProxyType(
    {"gloria": (_untrained_gloria, _write_gloria), "convirt": (_untrained_convirt, _write_convirt)}
)
