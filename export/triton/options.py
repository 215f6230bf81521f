"""What is asked of a model repository."""

from __future__ import annotations

from dataclasses import dataclass, field

from export.triton.config import Queue
from runtime.choice import MIN_FIDELITY

__all__ = ["BACKENDS", "Asked"]

# Backend → provider of the runtime whose graphs it runs, on which device.
BACKENDS: dict[str, dict[str, str]] = {
    "python": {"cpu": "auto", "gpu": "cuda"},
    "onnxruntime": {"cpu": "cpu", "gpu": "cuda"},
    "openvino": {"cpu": "openvino"},
}


@dataclass(frozen=True)
class Asked:
    """How a repository is to be; see `python -m export triton --help`.

    Attributes:
        backend: what embeds: "python", the runtime; or the graphs in "onnxruntime" or "openvino".
        name: what the models' names begin with.
        models: names in `export.triton.models.MODELS`; None takes those that the bundle and the backend have.
        provider: engine of models that call the runtime.
        precision: as for `runtime.load`; min_fidelity alike.
        device: "cpu" or "gpu", of what embeds.
        instances: of each such model.
        threads: of each instance; None leaves it all processors.
        max_texts: items of a batch of texts; max_images of images.
        queue: what may wait for each model.
        bundle_at: where the bundle lies on the machine that serves; None copies it into the repository.
    """

    backend: str = "python"
    name: str = "cxr"
    models: tuple[str, ...] | None = None
    provider: str = "auto"
    precision: str = "auto"
    min_fidelity: float = MIN_FIDELITY
    device: str = "cpu"
    instances: int = 1
    threads: int | None = None
    max_texts: int = 256
    max_images: int = 16
    queue: Queue = field(default_factory=lambda: Queue(requests=256, seconds=10.0))
    bundle_at: str | None = None
