"""Manifests as earlier schemas wrote them."""

from __future__ import annotations

from typing import Any

_EMBEDDING = {("cls", "cxr-bert"): "projected [CLS]", ("cls", "none"): "[CLS]", ("mean", "none"): "mean of all tokens"}
_TEXT = ("embedding_size", "artifacts")


def as_schema_3(manifest: dict[str, Any]) -> None:
    """Rewrite the parsed manifest of a CXR-BERT or BioViL bundle as schema 3 had it."""
    manifest["schema_version"] = 3
    del manifest["joint"]
    if text := manifest["text"]:
        embedding = _EMBEDDING[text["pooling"], text["projection"]]
        longest = text["tokenization"]["max_length"]
        manifest["text"] = {name: text[name] for name in _TEXT} | {"embedding": embedding, "max_length": longest}
    if image := manifest["image"]:
        pixels = image["preprocessing"]
        kept = {name: image[name] for name in ("grid", "embedding_size", "artifacts")}
        manifest["image"] = kept | {"resize": pixels["size"], "crop": pixels["crop"]}
