"""ONNX Runtime on NVIDIA GPUs: options, shapes, libraries, and where compiled engines are kept.

CUDA was run on an H100 with onnxruntime-gpu 1.31 and CUDA 13. TensorRT was not run: the names of its options are
compared with those in the libraries of onnxruntime-gpu, the values follow ONNX Runtime's documentation and source.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from runtime.engines.processor import Gpu
from runtime.process import import_private

__all__ = [
    "Bucket",
    "GraphInput",
    "Shapes",
    "cuda_options",
    "engine_key",
    "library_fault",
    "load_libraries",
    "model_digest",
    "plan_buckets",
    "tensorrt_options",
    "tensorrt_version",
]

# CUDA graphs stay off (enable_cuda_graph): a graph is captured for one shape at fixed addresses, so each length and
# batch would need buffers and a capture of its own, and ONNX Runtime refuses while nodes that compute shapes are on the
# processor, as they are. Inputs and outputs are not bound either: a batch is copied to the GPU once and a few rows come
# back, which is what `run` does by itself.
_CUDA_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        # The first GPU that CUDA_VISIBLE_DEVICES leaves.
        "device_id": "0",
        # TF32 has 10 bits of mantissa: too few for the fp32 gate.
        "use_tf32": "0",
        # By default the arena doubles whenever it is full, and never shrinks.
        "arena_extend_strategy": "kSameAsRequested",
        # Bytes, of each session: ten times BERT-base in fp32, an end to growth on a GPU that others use as well. Texts
        # of all lengths and images in the batches of `runtime.engines.providers` stayed below it in fp32.
        "gpu_mem_limit": str(4 << 30),
        # EXHAUSTIVE, the default, times every algorithm for every new batch size, with the largest workspaces; on an
        # H100 what it chose for images in fp16 took 2.5 times as long.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
)
# Channels last. An H100 computed 1, 4, 16 and 32 images in fp16 in 0.66, 0.83, 0.88 and 0.85 of the time; in fp32 it
# took 1.16 to 1.48 times as long.
_CUDA_BY_PRECISION: Mapping[str, Mapping[str, str]] = MappingProxyType({"fp16": {"prefer_nhwc": "1"}})
# One kernel for a convolution and its bias, where ONNX Runtime has cuDNN's frontend; an older one refuses the option.
# Not in fp32: where the frontend finds no plan it falls back to TF32 (microsoft/onnxruntime#21752). Not run on a GPU.
_CUDA_SINCE: Mapping[tuple[int, int], Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {(1, 20): {"fp16": {"fuse_conv_bias": "1"}}}
)
# TensorRT takes QDQ graphs only when told so. Not trt_fp16_enable: without it the types in an fp16 graph count, so that
# what the export kept in float32 stays there.
_BY_PRECISION: Mapping[str, Mapping[str, str]] = MappingProxyType({"int8": {"trt_int8_enable": "1"}})
_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
# The libraries of TensorRT that ONNX Runtime needs, in the order in which they need each other.
_TENSORRT_LIBRARIES = ("libnvinfer.so.*", "libnvonnxparser.so.*", "nvinfer_*.dll", "nvonnxparser_*.dll")


@dataclass(frozen=True)
class GraphInput:
    """An input of a graph: its name and axes; a name ("batch", "sequence") means dynamic, a number fixed."""

    name: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Shapes:
    """What TensorRT engines are built for.

    Attributes:
        text_batch: most rows of a batch of texts; larger batches are computed in pieces.
        image_batch: the same for images.
        lengths: one engine for the texts up to each of these numbers of tokens; ascending.
    """

    text_batch: int = 32
    image_batch: int = 8
    lengths: tuple[int, ...] = (128, 512)

    def to_json(self) -> str:
        """As a file that `from_json` reads."""
        return json.dumps(
            {"text_batch": self.text_batch, "image_batch": self.image_batch, "lengths": list(self.lengths)}
        )

    @staticmethod
    def from_json(text: str) -> Shapes:
        """Raises ValueError where it is no such file."""
        data = json.loads(text)
        try:
            shapes = Shapes(int(data["text_batch"]), int(data["image_batch"]), tuple(map(int, data["lengths"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no shapes: {error}") from None
        if min(shapes.text_batch, shapes.image_batch, *shapes.lengths) < 1 or not shapes.lengths:
            raise ValueError("no shapes: a number is below 1")
        return shapes


@dataclass(frozen=True)
class Bucket:
    """The shapes that one engine takes: dynamic axis → smallest and largest size."""

    sizes: Mapping[str, tuple[int, int]]

    def options(self, inputs: Sequence[GraphInput]) -> dict[str, str]:
        """ONNX Runtime's spelling of the optimization profile.

        Kernels are tuned for the largest shape: bulk work comes in full batches, padded to the bucket's length.
        """
        smallest, largest = (
            ",".join(f"{each.name}:{'x'.join(str(self._size(axis, end)) for axis in each.axes)}" for each in inputs)
            for end in (0, 1)
        )
        return {
            "trt_profile_min_shapes": smallest,
            "trt_profile_opt_shapes": largest,
            "trt_profile_max_shapes": largest,
        }

    def _size(self, axis: str | int, end: int) -> int:
        return axis if isinstance(axis, int) else self.sizes[axis][end]


def plan_buckets(inputs: Sequence[GraphInput], shapes: Shapes) -> tuple[Bucket, ...]:
    """The buckets of a graph, by ascending length.

    An engine may have several profiles, but ONNX Runtime only ever runs the first of them, so each bucket is an engine.

    Raises:
        ValueError: a dynamic axis that is neither "batch" nor "sequence".
    """
    axes = {axis for each in inputs for axis in each.axes if isinstance(axis, str)}
    unknown = sorted(axes - {"batch", "sequence"})
    if unknown:
        raise ValueError(f"the graph has the dynamic axes {', '.join(unknown)}; only batch and sequence are known")
    if "sequence" not in axes:
        return (Bucket({"batch": (1, shapes.image_batch)}),)
    lengths = sorted(set(shapes.lengths))
    starts = [1, *(length + 1 for length in lengths)]
    return tuple(
        Bucket({"batch": (1, shapes.text_batch), "sequence": (start, length)})
        for start, length in zip(starts, lengths, strict=False)
    )


def tensorrt_options(
    precision: str, inputs: Sequence[GraphInput], bucket: Bucket, cache: Path | None, timings: Path | None
) -> dict[str, str]:
    """Options of the TensorRT execution provider for one bucket.

    Args:
        precision: what is computed in.
        inputs: the graph's inputs.
        bucket: the shapes to build for.
        cache: folder of this very engine; None builds it anew each time.
        timings: folder of the measured kernels, which engines of one GPU share; None measures them anew.
    """
    options = {"device_id": "0", **bucket.options(inputs), **_BY_PRECISION.get(precision, {})}
    if cache is not None:
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    if timings is not None:
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(timings)}
    return options


def model_digest(model: Path) -> str:
    """SHA-256 over a graph and its external data.

    The external files are those beside the graph whose names occur in it.
    """
    from runtime.files import sha256_file

    graph = model.read_bytes()
    digest = hashlib.sha256(graph)
    for file in sorted(model.parent.rglob("*")):
        name = file.relative_to(model.parent).as_posix()
        if file != model and name.encode() in graph and file.is_file():
            digest.update(f"{name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def cuda_options(precision: str, version: str | None = None) -> dict[str, str]:
    """Options of the CUDA execution provider for what is computed in.

    Args:
        precision: of the graph.
        version: of ONNX Runtime, which raises at options that it does not know; None takes the installed one.
    """
    options = {**_CUDA_OPTIONS, **_CUDA_BY_PRECISION.get(precision, {})}
    known = _release(import_private("onnxruntime").__version__ if version is None else version)
    for since, more in _CUDA_SINCE.items():
        if known >= since:
            options |= more.get(precision, {})
    return options


def _release(version: str) -> tuple[int, int]:
    """Major and minor number, (0, 0) where it has none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def engine_key(gpu: Gpu | None, onnxruntime: str, tensorrt: str, options: Mapping[str, str] | None = None) -> str:
    """Name of a cache folder: engines fit one model of GPU, one version of each library and one set of options only.

    Args:
        gpu: the GPU; None where it does not tell.
        onnxruntime: version of ONNX Runtime.
        tensorrt: version of TensorRT.
        options: the provider's options; those that name cache folders do not count.
    """
    kept = {name: value for name, value in (options or {}).items() if "cache" not in name}
    named = [gpu.name, list(gpu.capability)] if gpu else None
    text = json.dumps([named, onnxruntime, tensorrt, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensorrt_version() -> str | None:
    """Version of TensorRT, or None where there is none."""
    from importlib import metadata  # 20 ms that a process without a GPU need not spend

    for package in _TENSORRT_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    load_libraries("TensorrtExecutionProvider")
    name = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"
    try:
        number = int(ctypes.CDLL(name).getInferLibVersion())
    except (OSError, AttributeError):
        return None
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def load_libraries(execution_provider: str) -> None:
    """Load what pip installed of CUDA, cuDNN and TensorRT, which lies where the dynamic linker does not look."""
    onnxruntime = import_private("onnxruntime")
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        # It prints what it misses; `library_fault` says it better.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            preload(directory="")
    if execution_provider != "TensorrtExecutionProvider":
        return
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec and spec.submodule_search_locations) or ():
        for pattern in _TENSORRT_LIBRARIES:
            for file in sorted(Path(folder).glob(pattern)):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


def library_fault(execution_provider: str) -> str | None:
    """What the dynamic linker misses of an execution provider, and what to install; None where it loads."""
    onnxruntime = import_private("onnxruntime")
    load_libraries(execution_provider)
    name = execution_provider.removesuffix("ExecutionProvider").lower()
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    capi = Path(onnxruntime.__file__).parent / "capi"
    try:
        # The provider uses symbols of the shared part without naming it as a dependency.
        ctypes.CDLL(str(capi / f"{prefix}onnxruntime_providers_shared{suffix}"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(capi / f"{prefix}onnxruntime_providers_{name}{suffix}"))
    except OSError as error:
        return (
            f"its libraries cannot be loaded: {error}. Install an NVIDIA driver, and CUDA and cuDNN with: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]' (for TensorRT also: pip install 'tensorrt==10.*')."
        )
    return None
