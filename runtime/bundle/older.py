"""Manifests of earlier schemas, as the present one would have them.

Until schema 3 every bundle held CXR-BERT, BioViL's ResNet-50 or both, and what the manifest now says stood in the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.artifacts import Artifact
from runtime.engines import Session

__all__ = ["OLDEST", "present_names", "upgraded"]

# Schema 3 says what a text embedding is made of, and has graphs that fill masks; 4 has the towers' axes.
OLDEST = 2
_EMBEDDINGS = {
    "projected [CLS]": {"pooling": "cls", "projection": "cxr-bert"},
    "[CLS]": {"pooling": "cls", "projection": "none"},
    "mean of all tokens": {"pooling": "mean", "projection": "none"},
}
_FILL_MASK = "fill_mask"
# Names of tensors today → what they were called when every text graph was CXR-BERT's.
_TENSORS = {"unnormalized_embeds": "cls_projected_embedding", "text_positions": "cls_positions"}


class _Renamed:
    """A session of an older graph, which is asked by today's names."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `Session`."""
        renamed = {_TENSORS.get(name, name): value for name, value in inputs.items()}
        return self._session.run([_TENSORS.get(name, name) for name in outputs], renamed)


def present_names(session: Session, artifact: Artifact) -> Session:
    """A session that is asked by today's names of tensors, whatever the graph calls them."""
    names = {tensor.name for tensor in (*artifact.inputs, *artifact.outputs)}
    return _Renamed(session) if names & set(_TENSORS.values()) else session


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """The parsed JSON of a manifest of schema 2 or 3 in the form of schema 4; faults in it stay for `decode` to find.

    Raises:
        ValueError: a text embedding of which this version does not know what it is made of.
    """
    found = dict(manifest)
    text, image = found.get("text"), found.get("image")
    if isinstance(text, dict):
        found["text"] = _text(text)
    if isinstance(image, dict):
        found["image"] = _image(image)
    both = isinstance(text, dict) and isinstance(image, dict)
    # hi-ml-multimodal compares cosines as they are.
    found["joint"] = (
        {
            "embedding_size": image.get("embedding_size"),
            "logit_scale": 1.0,
            "logit_bias": 0.0,
            "score": "pairs",
            "templates": [],
        }
        if both and isinstance(image, dict)
        else None
    )
    return found


def _text(part: dict[str, Any]) -> dict[str, Any]:
    part = dict(part)
    embedding = part.pop("embedding", "projected [CLS]")
    if embedding not in _EMBEDDINGS:
        raise ValueError(f"manifest.text.embedding is {embedding!r}; one of {', '.join(_EMBEDDINGS)} is expected")
    artifacts = part.get("artifacts")
    roles = [each.get("role") for each in artifacts if isinstance(each, dict)] if isinstance(artifacts, list) else []
    return {
        "architecture": "bert",
        "attention": "bidirectional",
        "tokenization": {
            "tokenizer": "wordpiece",
            "too_long": "refused",
            "cleaning": "trailing punctuation",
            "prompts": {},
            "default_prompt": None,
            **({"max_length": part.pop("max_length")} if "max_length" in part else {}),
        },
        **_EMBEDDINGS[embedding],
        "masked_words": _FILL_MASK in roles,
        **part,
    }


def _image(part: dict[str, Any]) -> dict[str, Any]:
    part = dict(part)
    # What is missing is left out here as well, so that it is the old name that is missed.
    moved = {new: part.pop(old) for old, new in (("resize", "size"), ("crop", "crop")) if old in part}
    return {
        "architecture": "resnet50",
        "preprocessing": {
            "colours": "grey",
            "resize": "shortest",
            "interpolation": "bilinear",
            "crop_rounding": "even",
            "mean": [0.0],
            "std": [1.0],
            **moved,
        },
        "images": 1,
        **part,
    }
