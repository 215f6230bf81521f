"""The models of a repository: which there are, their tensors, what embeds in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from export.triton.config import TYPES, ModelConfig, Step, Tensor, WarmUp
from export.triton.options import BACKENDS, Asked
from export.triton.warm_ups import (
    Files,
    film_warm_ups,
    joint_warm_ups,
    pixel_warm_ups,
    text_warm_ups,
    token_warm_ups,
)
from runtime.bundle import FILL_MASK, Artifact, Bundle
from runtime.bundle.artifacts import TensorSpec
from runtime.bundle.manifest import SCHEMA_VERSION
from runtime.choice import choose_precision
from runtime.choice.precision import Choice
from runtime.engines import PROVIDERS
from runtime.errors import BundleError, InputError

__all__ = ["MODELS", "Model", "plan_models"]

_TEXT = Tensor("TEXT", "TYPE_STRING", (1,))
_IMAGE = Tensor("IMAGE", "TYPE_STRING", (1,))
_JSON = Tensor("JSON", "TYPE_STRING", (1,))
# Which the graph's backend of Triton cannot be told what the runtime tells it: blocks of activations.
_NOT_FOR_GRAPHS = "int8-dynamic"


@dataclass(frozen=True)
class Model:
    """A model to write.

    Attributes:
        config: of it.
        files: of its warm-ups.
        graph: that its backend runs, and in which precision; None of a model in Python and of an ensemble.
    """

    config: ModelConfig
    files: Files = field(default_factory=dict)
    graph: Choice | None = None


@dataclass(frozen=True)
class _Kind:
    """A model that can be asked for.

    Attributes:
        parts: that the bundle needs.
        python: makes it by a task of `runtime.triton`.
        graph: makes it of the graph in another backend, with what stands before it; None where there is no such way.
        role: of a graph that the bundle needs beside those that embed.
    """

    parts: tuple[str, ...]
    python: Callable[[Bundle, Asked], Model]
    graph: Callable[[Bundle, Asked], list[Model]] | None = None
    role: str | None = None

    def missing(self, bundle: Bundle) -> bool:
        """Whether the bundle lacks what it needs."""
        parts = [part for part in self.parts if part not in bundle.parts()]
        return bool(parts) or (self.role is not None and not bundle.artifacts(self.parts[0], role=self.role))


def plan_models(bundle: Bundle, asked: Asked) -> list[Model]:
    """The models that were asked for, those that others call before them.

    Raises:
        InputError: a model that there is not.
        BundleError: the bundle lacks what a model needs.
        ProviderError: an engine refuses the precision.
    """
    default = [
        name
        for name, kind in MODELS.items()
        if not kind.missing(bundle) and (asked.backend == "python" or kind.graph is not None)
    ]
    unknown = [name for name in asked.models or () if name not in MODELS]
    if unknown:
        raise InputError(f"There is no model {', '.join(unknown)}; there are: {', '.join(MODELS)}.")
    models = []
    for name in default if asked.models is None else dict.fromkeys(asked.models):
        kind = MODELS[name]
        if kind.missing(bundle):
            raise BundleError(
                f"{bundle.root} has not what the model '{name}' needs; of this bundle there can be: "
                f"{', '.join(each for each, other in MODELS.items() if not other.missing(bundle))}."
            )
        if asked.backend == "python" or kind.graph is None:
            models.append(kind.python(bundle, asked))
        else:
            models += kind.graph(bundle, asked)
    return models


def _embed_text(bundle: Bundle, asked: Asked) -> Model:
    size = bundle.text_part().embedding_size
    outputs = (Tensor("EMBEDDING", "TYPE_FP32", (size,)),)
    summary = "Texts to embeddings of unit length; the texts of a batch share rows."
    return _python(bundle, asked, "text", "embed_text", summary, (_TEXT,), outputs, text_warm_ups(asked.max_texts))


def _fill_mask(bundle: Bundle, asked: Asked) -> Model:
    inputs = (
        _TEXT,
        Tensor("TOP_K", "TYPE_INT32", (1,), optional=True),
        Tensor("TARGETS", "TYPE_STRING", (-1,), optional=True, ragged=True),
    )
    summary = "The likeliest words at each [MASK], as JSON."
    warm_up = text_warm_ups(asked.max_texts, masked=True)
    return _python(bundle, asked, "fill_mask", "fill_mask", summary, inputs, (_JSON,), warm_up)


def _embed_image(bundle: Bundle, asked: Asked) -> Model:
    outputs = (Tensor("EMBEDDING", "TYPE_FP32", (bundle.image_part().embedding_size,)),)
    summary = "Encoded pictures (PNG, JPEG, DICOM) to embeddings of unit length."
    warm_up = film_warm_ups(asked.max_images)
    return _python(bundle, asked, "image", "embed_image", summary, (_IMAGE,), outputs, warm_up)


def _similarity(bundle: Bundle, asked: Asked) -> Model:
    inputs = (_IMAGE, Tensor("TEXT", "TYPE_STRING", (-1,), ragged=True))
    outputs = (Tensor("SIMILARITY", "TYPE_FP32", (1,)),)
    summary = "The cosine of an encoded picture with a phrase, or with several that mean the same."
    warm_up = joint_warm_ups("TEXT", "Small left pleural effusion.")
    return _python(bundle, asked, "similarity", "similarity", summary, inputs, outputs, warm_up)


def _classify(bundle: Bundle, asked: Asked) -> Model:
    inputs = (_IMAGE, Tensor("PROMPTS", "TYPE_STRING", (1,)))
    summary = "Probabilities of labels for an encoded picture, as JSON; PROMPTS names a set, or is JSON itself."
    warm_up = joint_warm_ups("PROMPTS", '{"effusion": [["Pleural effusion"], ["No pleural effusion"]]}')
    return _python(bundle, asked, "classify", "classify", summary, inputs, (_JSON,), warm_up)


def _python(
    bundle: Bundle,
    asked: Asked,
    suffix: str,
    task: str,
    summary: str,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    warm_up: tuple[Sequence[WarmUp], Files],
) -> Model:
    """A model of the Python backend that runs a task of `runtime.triton`."""
    # A graph's own backend has the device; what stands before it runs on the processor.
    before = asked.backend != "python"
    given = {
        "task": task,
        "bundle": asked.bundle_at,
        "provider": BACKENDS["python"][asked.device] if asked.provider == "auto" and not before else asked.provider,
        "precision": asked.precision,
        "threads": None if asked.threads is None else str(asked.threads),
    }
    images = any(each.name == "IMAGE" for each in inputs)
    config = ModelConfig(
        name=f"{asked.name}_{suffix}",
        summary=summary,
        backend="python",
        max_batch_size=asked.max_images if images else asked.max_texts,
        inputs=inputs,
        outputs=outputs,
        instances=asked.instances,
        queue=asked.queue,
        parameters={key: value for key, value in given.items() if value is not None},
        warm_ups=tuple(warm_up[0]),
    )
    return Model(config, warm_up[1])


def _text_graph(bundle: Bundle, asked: Asked) -> list[Model]:
    graph = _graph(bundle, asked, "text")
    names = tuple(each.name for each in graph.config.inputs)
    warm_ups, files = token_warm_ups(bundle.text_part(), names, asked.max_texts)
    graph = replace(graph, config=replace(graph.config, warm_ups=warm_ups), files=files)
    before = _python(
        bundle,
        asked,
        "tokens",
        "tokenize",
        "Texts to token ids, padded; the first step of another model.",
        (_TEXT,),
        graph.config.inputs,
        text_warm_ups(asked.max_texts),
    )
    return [before, graph, _ensemble(asked, "text", before, graph, "text_embeds")]


def _image_graph(bundle: Bundle, asked: Asked) -> list[Model]:
    graph = _graph(bundle, asked, "image")
    (pixels,) = graph.config.inputs
    warm_ups, files = pixel_warm_ups(pixels.name, pixels.dims, asked.max_images)
    graph = replace(graph, config=replace(graph.config, warm_ups=warm_ups), files=files)
    before = _python(
        bundle,
        asked,
        "pixels",
        "prepare_image",
        "Encoded pictures to the pixels that the image graph reads; the first step of another model.",
        (_IMAGE,),
        (pixels,),
        film_warm_ups(asked.max_images),
    )
    return [before, graph, _ensemble(asked, "image", before, graph, "image_embeds")]


def _ensemble(asked: Asked, suffix: str, before: Model, graph: Model, output: str) -> Model:
    """A model of the same face as that in Python: what prepares, then the graph."""
    (entrance,) = before.config.inputs
    exit_ = next(each for each in graph.config.outputs if each.name == output)
    between = {each.name: each.name for each in graph.config.inputs}
    steps = (
        Step(before.config.name, {entrance.name: entrance.name}, between),
        Step(graph.config.name, between, {output: "EMBEDDING"}),
    )
    return Model(
        ModelConfig(
            name=f"{asked.name}_{suffix}",
            summary=f"{before.config.name}, then {graph.config.name}.",
            backend="ensemble",
            max_batch_size=graph.config.max_batch_size,
            inputs=(entrance,),
            outputs=(replace(exit_, name="EMBEDDING"),),
            steps=steps,
        )
    )


def _graph(bundle: Bundle, asked: Asked, part: str) -> Model:
    """A part's graph in a backend of its own."""
    choice = _chosen(bundle, asked, part)
    artifact = choice.artifact
    parameters: dict[str, str] = {}
    if asked.backend == "onnxruntime" and asked.threads is not None:
        parameters["intra_op_thread_count"] = str(asked.threads)
    if asked.backend == "openvino":
        parameters |= {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        parameters |= {"INFERENCE_NUM_THREADS": str(asked.threads)} if asked.threads is not None else {}
        parameters |= {"HINT_BF16": "YES"} if choice.precision == "bf16" else {}
    config = ModelConfig(
        name=f"{asked.name}_{part}_graph",
        summary=f"The {part} graph in {choice.precision}.",
        backend=asked.backend,
        max_batch_size=asked.max_texts if part == "text" else asked.max_images,
        inputs=tuple(map(_tensor, artifact.inputs)),
        outputs=tuple(map(_tensor, artifact.outputs)),
        instances=asked.instances,
        device=asked.device,
        queue=asked.queue,
        parameters=parameters,
        model_file="model.onnx" if asked.backend == "openvino" else None,
    )
    return Model(config, graph=choice)


def _chosen(bundle: Bundle, asked: Asked, part: str) -> Choice:
    if bundle.manifest.schema_version != SCHEMA_VERSION:
        raise BundleError(
            f"{bundle.root} was written by an older version, whose graphs have other names. Export it again, or take "
            "--backend python."
        )
    provider = PROVIDERS[BACKENDS[asked.backend][asked.device]]
    choice = choose_precision(bundle, part, provider, asked.precision, asked.min_fidelity)
    if choice.precision == _NOT_FOR_GRAPHS and asked.precision == "auto":
        return choose_precision(bundle, part, provider, "fp32")
    if choice.precision == _NOT_FOR_GRAPHS:
        raise InputError(
            f"--precision {_NOT_FOR_GRAPHS}: Triton's {asked.backend} backend cannot be told to compute in it. Take "
            "another, or --backend python."
        )
    return choice


def _tensor(spec: TensorSpec) -> Tensor:
    """A tensor of a graph, without the batch's axis."""
    batch, *axes = spec.axes
    if isinstance(batch, int):
        raise BundleError(f"'{spec.name}' has batches of {batch} alone. Export the bundle again.")
    return Tensor(spec.name, TYPES[spec.dtype], tuple(axis if isinstance(axis, int) else -1 for axis in axes))


MODELS: Mapping[str, _Kind] = MappingProxyType(
    {
        "text": _Kind(("text",), _embed_text, _text_graph),
        "fill_mask": _Kind(("text",), _fill_mask, role=FILL_MASK),
        "image": _Kind(("image",), _embed_image, _image_graph),
        "similarity": _Kind(("text", "image"), _similarity),
        "classify": _Kind(("text", "image"), _classify),
    }
)


def graph_files(artifact: Artifact) -> dict[str, str]:
    """Files of a graph: name in the bundle → name in the model's version folder.

    Weights keep their names, by which the graph finds them beside itself.

    Raises:
        BundleError: weights do not lie beside the graph.
    """
    folder, _, _ = artifact.file.rpartition("/")
    placed = {artifact.file: "model.onnx"}
    for weights in artifact.external_data:
        there, _, name = weights.rpartition("/")
        if there != folder or name == "model.onnx":
            raise BundleError(f"'{weights}' does not lie beside '{artifact.file}'. Export the bundle again.")
        placed[weights] = name
    return placed
