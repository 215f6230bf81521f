"""The README.md of a repository: how to serve it, what it takes, what it was not tried with."""

from __future__ import annotations

from collections.abc import Sequence

from export.triton.config import Tensor
from export.triton.models import Model
from export.triton.options import Asked
from runtime.bundle import Manifest
from runtime.process.version import __version__

__all__ = ["readme"]

_BACKENDS = {"python": "Python", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# Extras that the Python models need, where these compute.
_EXTRAS = {("python", "cpu"): "cpu,openvino", ("python", "gpu"): "gpu"}


def readme(manifest: Manifest, models: Sequence[Model], asked: Asked) -> str:
    """Markdown."""
    sections = [
        f"# {manifest.family}: a model repository for Triton Inference Server",
        f"Written by `python -m export triton` of cxr-engine {__version__}. For research only, not for clinical use."
        + (" **Random weights: its results mean nothing.**" if manifest.source.kind == "random" else ""),
        _table(models),
        _serving(models, asked),
        _requests(models),
        _limits(models, asked),
    ]
    return "\n\n".join(sections) + "\n"


def _table(models: Sequence[Model]) -> str:
    rows = ["| model | backend | inputs → outputs | what |", "|---|---|---|---|"]
    for each in models:
        config = each.config
        faces = f"{_shown(config.inputs)} → {_shown(config.outputs)}"
        rows.append(f"| `{config.name}` | {config.backend} | {faces} | {config.summary} |")
    return "\n".join(rows)


def _shown(tensors: Sequence[Tensor]) -> str:
    return ", ".join(
        f"`{each.name}` {each.protocol_type} {list(each.dims)}{' (optional)' if each.optional else ''}"
        for each in tensors
    )


def _serving(models: Sequence[Model], asked: Asked) -> str:
    backend = f"The {_BACKENDS[asked.backend]} backend is in NVIDIA's images `nvcr.io/nvidia/tritonserver:<yy.mm>-py3`"
    if asked.backend != "python":
        backend += ", and so is the Python backend, which tokenizes and decodes before the graphs"
    images = any(tensor.name == "IMAGE" for each in models for tensor in each.config.inputs)
    extras = ",".join(filter(None, [_EXTRAS.get((asked.backend, asked.device)), "dicom" if images else None]))
    package = f"cxr-engine[{extras}]" if extras else "cxr-engine"
    mounted = f" -v BUNDLE:{asked.bundle_at}:ro" if asked.bundle_at else ""
    devices = " --gpus all" if asked.device == "gpu" else ""
    place = (
        f"The Python models read the bundle at `{asked.bundle_at}`, which must be there on the machine that serves."
        if asked.bundle_at
        else "The Python models read the bundle in the folder `bundle`, so keep the two folders beside each other."
    )
    return f"""## Serve it

{backend}. Their Python needs this project. Derive an image, with this version of it,

    FROM nvcr.io/nvidia/tritonserver:<yy.mm>-py3
    RUN pip install '{package}=={__version__}'

and serve with

    docker run --rm --read-only --tmpfs /tmp --shm-size 256m{devices} \\
      --cap-drop ALL --security-opt no-new-privileges \\
      -p 127.0.0.1:8000:8000 -v "$PWD:/repository:ro"{mounted} IMAGE \\
      tritonserver --model-repository=/repository/models \\
        --disable-auto-complete-config --model-control-mode=none --exit-timeout-secs=30 \\
        --allow-grpc=false --allow-metrics=false

Give Triton the folder `models`, not this one: it takes every folder in it for a model. {place}

- Triton has no keys and does not tell callers apart: keep it behind a proxy, or on the loopback address. Versions
  before 25.08 have holes through which callers run code. With `--model-control-mode=none` nobody loads models.
- Ask each model whether it is ready, `GET /v2/models/NAME/ready`: that of the server stays 200 where the process of a
  Python model has died."""


def _requests(models: Sequence[Model]) -> str:
    first = next((each.config for each in models if each.config.inputs[0].name in ("TEXT", "IMAGE")), models[0].config)
    ensemble = next((each.config for each in models if each.config.backend == "ensemble"), first)
    shown = ensemble if first.name.endswith(("_tokens", "_pixels")) else first
    entrance, output = shown.inputs[0].name, shown.outputs[0].name
    item = 'b"Small left pleural effusion."' if entrance == "TEXT" else 'open("film.png", "rb").read()'
    item = 'b"Small left pleural [MASK]."' if output == "JSON" and entrance == "TEXT" else item
    return f"""## Ask it

    import numpy as np, tritonclient.http as http

    client = http.InferenceServerClient("127.0.0.1:8000")
    items = http.InferInput("{entrance}", [1, 1], "BYTES")
    items.set_data_from_numpy(np.array([[{item}]], dtype=object))
    client.infer("{shown.name}", [items]).as_numpy("{output}")

The first axis counts a request's items: texts, or pictures as files (PNG, JPEG, DICOM)."""


def _limits(models: Sequence[Model], asked: Asked) -> str:
    lines = [
        f"- A request has at most {asked.max_texts} texts or {asked.max_images} pictures. At most "
        f"{asked.queue.requests} requests wait for a model, each for at most {asked.queue.seconds:g} s; others are "
        "refused.",
        "- Texts have at most 20,000 characters, pictures 50 million pixels by their header. DICOM that is deflated is "
        "refused. The parameters `max_characters` and `max_pixels` in config.pbtxt change that.",
        "- A text or picture that cannot be used fails its own request, with its place and the reason, and no other "
        "request of the batch.",
    ]
    if any(each.graph for each in models):
        lines += [
            "- Triton joins requests of one shape. Token ids are padded to multiples of 32, and only texts of one such "
            "length share a batch; models of `--backend python` pack texts of any length.",
            "- Triton opens graphs without comparing digests.",
            f"- **Not run**: the {_BACKENDS[asked.backend]} backend was not at hand. What was checked: each "
            "config.pbtxt by Triton's protobuf; names, types and shapes against the graphs; in Triton 2.51 the Python "
            "models and the ensembles, with the graphs run by ONNX Runtime in a Python model in the backend's place.",
        ]
    if asked.backend == "openvino":
        lines.append(
            "- This backend cannot be told to compute in float32: on processors with BF16 units OpenVINO computes fp32 "
            "graphs in bfloat16."
        )
    if asked.device == "gpu":
        lines.append("- **Not run** on a GPU.")
    return "## Limits\n\n" + "\n".join(lines)
