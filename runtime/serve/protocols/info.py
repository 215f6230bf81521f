"""What the server says of itself: text-embeddings-inference's `/info`, and what its bundles can do."""

from __future__ import annotations

from typing import Any

from runtime.bundle.parts import COSINES
from runtime.process.version import __version__
from runtime.serve.limits import Limits
from runtime.serve.models.contract import ServedModel
from runtime.serve.protocols.asked import capabilities
from runtime.serve.server_state import Server
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import SIDES
from runtime.tasks.templates import TEMPLATE_SETS
from runtime.tasks.zero_shot import RULES, SCORES

__all__ = ["described_model", "model_names", "server_info"]

_POOLINGS = {"eos": "last_token"}
_LIMITS = ("json_bytes", "image_bytes", "texts", "images", "characters", "pixels", "words", "phrases", "hits")


def server_info(server: Server) -> dict[str, Any]:
    """The answer to `GET /info`, JSON-ready."""
    models = []
    for name in server.models.names:
        with server.models.lease(name) as model:
            models.append(described_model(model))
    with server.models.lease() as default:
        of_tei = _as_tei(default, server)
    return {
        **of_tei,
        "models": models,
        "task": server.task,
        "indexes": [
            {
                "name": each.name,
                "kind": each.index.kind,
                "rows": len(each.index),
                "pictures": each.root is not None and each.index.kind == "image",
                "queries": [kind for kind in ("text", "image") if any(m["capabilities"][kind] for m in models)],
            }
            for each in server.indexes.values()
        ],
        "limits": _bounds(server.limits),
    }


def model_names(server: Server) -> list[tuple[str, float]]:
    """Name of each bundle and when it was loaded, in seconds since the epoch; the default one first."""
    found = []
    for name in server.models.names:
        with server.models.lease(name) as model:
            found.append((name, model.created))
    return found


def described_model(model: ServedModel) -> dict[str, Any]:
    """What a bundle is and can do, JSON-ready."""
    engine, manifest = model.engine, model.engine.manifest
    able = capabilities(model)
    joint = manifest.joint or COSINES
    score = joint.score if able["joint"] else None
    tokenizer = engine.text.tokenizer if able["text"] else None
    mask = tokenizer.mask_token_id if tokenizer is not None else None
    paired = score is not None and SCORES[score].sides == SIDES
    text, image = manifest.text, manifest.image
    return {
        "name": model.name,
        "family": manifest.family,
        "provider": engine.provider,
        "precision": engine.precision,
        "random_weights": manifest.source.kind == "random",
        "capabilities": able,
        "embedding_size": {
            "text": text.embedding_size if text else None,
            "image": image.embedding_size if image else None,
        },
        "max_input_length": text.tokenization.max_length if text else None,
        "prompt_names": list(text.tokenization.prompts) if text else [],
        "mask_token": tokenizer.token(mask) if tokenizer is not None and mask is not None else None,
        "image_size": image.preprocessing.crop if image and able["image"] else None,
        "grid": image.grid if image and able["patches"] else None,
        "score": score,
        "scores": list(SCORES) if score else [],
        "rules": list(RULES) if score else [],
        "prompt_sets": [
            name for name, each in PROMPT_SETS.items() if score and all(p.negative for p in each.prompts) == paired
        ],
        "templates": [
            name for name, each in TEMPLATE_SETS.items() if score and (not paired or each.templates.negative)
        ],
    }


def _as_tei(model: ServedModel, server: Server) -> dict[str, Any]:
    text, limits = model.engine.manifest.text, server.limits
    pooling = text.pooling if text else "cls"
    longest = text.tokenization.max_length if text else 0
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_dtype": model.engine.precision.get("text") or next(iter(model.engine.precision.values())),
        "served_model_name": model.name,
        "model_type": {"embedding": {"pooling": _POOLINGS.get(pooling, pooling)}},
        "max_concurrent_requests": limits.requests,
        "max_input_length": longest,
        "max_batch_tokens": model.token_budget,
        "max_batch_requests": None,
        "max_client_batch_size": limits.texts,
        "auto_truncate": server.auto_truncate or (text is not None and text.tokenization.too_long == "cut"),
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def _bounds(limits: Limits) -> dict[str, int]:
    return {name: getattr(limits, name) for name in _LIMITS}
