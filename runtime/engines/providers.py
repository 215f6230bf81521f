"""The table of inference engines: how to tell whether one can run here, and how to open a graph with it.

A new engine is one more entry in `PROVIDERS`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from runtime.engines.cores import default_threads
from runtime.engines.installed import gpu_lacks, import_fault, onnxruntime_lacks
from runtime.engines.onnxruntime_session import open_onnxruntime
from runtime.engines.openvino_core import openvino_core
from runtime.engines.openvino_session import OPENVINO, OpenVinoSession
from runtime.engines.processor import first_gpu, processor_name
from runtime.engines.session import Session, SessionOptions
from runtime.engines.tensorrt_session import TensorRtSession
from runtime.errors import InputError, ProviderError
from runtime.process import shown
from runtime.process.forks import lost, started

__all__ = [
    "AUTO_ORDER",
    "PROVIDERS",
    "AutoStep",
    "Provider",
    "choose_provider",
    "default_threads",
    "explain_auto",
    "unavailable_reason",
]


# Texts: enough tokens to keep the matrix products busy, few enough to stay in cache. Images: measured with ONNX Runtime
# on 2 cores, each took 214 ms one by one, 195 in fours, 216 in eights.
_PROCESSOR_BATCH: Mapping[str, int] = MappingProxyType({"text": 512, "image": 4})
# Measured on an H100 in fp16: a text took 0.57 ms in batches of 512 tokens, 0.16 of 2,048, 0.10 of 8,192, 0.13 of
# 32,768; an image 0.83 ms in fours, 0.61 in sixteens, 0.57 in batches of 64, for which fp32 asks for 2.4 GiB at once.
_GPU_BATCH: Mapping[str, int] = MappingProxyType({"text": 8192, "image": 16})


@dataclass(frozen=True)
class AutoStep:
    """What "auto" makes of one engine: whether it would be taken, and why or why not."""

    provider: str
    taken: bool
    reason: str


@dataclass(frozen=True)
class Provider:
    """One inference engine.

    Attributes:
        name: what callers pass as `provider`.
        extra: the install extra that brings it.
        summary: one line for listings.
        missing: returns why it cannot run here, or None.
        open: opens a graph; raises ProviderError.
        from_fp32: precisions in which it computes an fp32 artifact when told to.
        bf16_missing: returns why it cannot compute in bf16 here, or could only slowly, or None.
        processor: returns the model name of what it computes on, "unknown GPU" where that cannot be told.
        packs: whether rows filled with several texts are worth it there; else texts are padded to the longest.
        batch: tokens, and images, that bulk work computes together where nothing was tuned: "text" and "image".
        on_callers: whether a stream of one thread computes on the thread that calls, which it leaves as it is.
        whole_batches: whether convolutions are planned anew for each other number of images, which takes long.
    """

    name: str
    extra: str
    summary: str
    missing: Callable[[], str | None]
    open: Callable[[Path, SessionOptions], Session]
    from_fp32: frozenset[str] = field(default=frozenset(), kw_only=True)
    bf16_missing: Callable[[], str | None] = field(kw_only=True)
    processor: Callable[[], str] = field(default=processor_name, kw_only=True)
    packs: bool = field(default=False, kw_only=True)
    batch: Mapping[str, int] = field(default_factory=lambda: _PROCESSOR_BATCH, kw_only=True)
    whole_batches: bool = field(default=False, kw_only=True)
    on_callers: bool = field(default=False, kw_only=True)

    def refuses(self, precision: str) -> str | None:
        """Why it does not compute in a precision on this machine, or None."""
        reason = self.bf16_missing() if precision == "bf16" else None
        return reason and f"Provider '{self.name}' does not compute in {precision} here: {reason}"


def _openvino_missing() -> str | None:
    return lost(OPENVINO) or import_fault("openvino")


def _open_onnxruntime(execution_provider: str) -> Callable[[Path, SessionOptions], Session]:
    def open_session(model: Path, options: SessionOptions) -> Session:
        return open_onnxruntime(model, execution_provider, options)

    return open_session


def _onnxruntime_bf16_missing() -> str:
    return "ONNX Runtime has no bf16 kernels for processors. Use provider='openvino', or another precision."


def _openvino_bf16_missing() -> str | None:
    started(OPENVINO)
    if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    return (
        f"{processor_name()} has neither AVX512_BF16 nor AMX_BF16, so OpenVINO would emulate it slowly. "
        "Use another precision, such as fp32."
    )


def _gpu_bf16_missing() -> str | None:
    gpu = first_gpu()
    if gpu is None or gpu.capability >= _BF16_CAPABILITY:
        return None
    found, needed = (".".join(map(str, capability)) for capability in (gpu.capability, _BF16_CAPABILITY))
    return (
        f"{gpu.name} has compute capability {found}; bf16 needs {needed} and would be emulated slowly. "
        "Use another precision, such as fp16."
    )


def _gpu_name() -> str:
    gpu = first_gpu()
    return gpu.name if gpu else "unknown GPU"


_BF16_CAPABILITY = (8, 0)

_TABLE = (
    Provider(
        "cpu",
        "cpu",
        "ONNX Runtime on the processor",
        onnxruntime_lacks("CPUExecutionProvider"),
        _open_onnxruntime("CPUExecutionProvider"),
        bf16_missing=_onnxruntime_bf16_missing,
        packs=True,
        on_callers=True,
    ),
    Provider(
        "openvino",
        "openvino",
        "OpenVINO on the processor",
        _openvino_missing,
        OpenVinoSession,
        from_fp32=frozenset({"bf16"}),
        bf16_missing=_openvino_bf16_missing,
        packs=True,
    ),
    Provider(
        "cuda",
        "gpu",
        "ONNX Runtime with CUDA",
        gpu_lacks("CUDAExecutionProvider"),
        _open_onnxruntime("CUDAExecutionProvider"),
        bf16_missing=_gpu_bf16_missing,
        processor=_gpu_name,
        batch=_GPU_BATCH,
        # On an H100 24 files, in batches of 16 and of 8, took 0.6 s more in fp16 and 0.2 s in fp32 than peers took that
        # computed them in one batch; a first call of a new shape takes about half of that.
        whole_batches=True,
    ),
    Provider(
        "tensorrt",
        "gpu",
        "ONNX Runtime with TensorRT",
        gpu_lacks("TensorrtExecutionProvider"),
        TensorRtSession,
        bf16_missing=_gpu_bf16_missing,
        processor=_gpu_name,
        batch=_GPU_BATCH,
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({provider.name: provider for provider in _TABLE})

# What `auto` tries where nothing was measured. TensorRT builds an engine for minutes and is only taken by name.
AUTO_ORDER = ("cuda", "cpu", "openvino")


def unavailable_reason(provider: Provider) -> str | None:
    """Why the provider cannot run here, with the install command, or None if nothing speaks against it."""
    reason = provider.missing()
    if reason is None or reason.endswith("."):  # a whole sentence says itself what to do
        return reason
    hint = f"Install it with: pip install 'cxr-engine[{provider.extra}]'"
    if provider.extra == "gpu":
        if platform.system() == "Darwin":
            hint = "There is no CUDA on macOS; use provider='cpu'."
        else:
            hint += " (after: pip uninstall onnxruntime; the two packages share their files)"
    return f"{reason}. {hint}"


def choose_provider(name: str) -> tuple[Provider, ...]:
    """The providers to try, in order: the named one alone, or for "auto" all that look usable.

    Raises:
        ProviderError: an unknown name, a named provider that cannot run here, or "auto" with none installed. Nothing
            falls back silently.
        InputError: no str.
    """
    if not isinstance(name, str):
        raise InputError(
            f"provider={shown(name)}; the name of an inference engine is expected: auto, {', '.join(PROVIDERS)}."
        )
    if name != "auto":
        if name not in PROVIDERS:
            raise ProviderError(f"There is no provider '{name}'; there are: auto, {', '.join(PROVIDERS)}.")
        reason = unavailable_reason(PROVIDERS[name])
        if reason is not None:
            raise ProviderError(f"Provider '{name}' was asked for, but {reason}")
        return (PROVIDERS[name],)
    usable = tuple(PROVIDERS[key] for key in AUTO_ORDER if PROVIDERS[key].missing() is None)
    if not usable:
        raise ProviderError("No inference engine is installed. Install one with: pip install 'cxr-engine[cpu]'")
    return usable


def explain_auto(
    order: Sequence[str] | None = None, reason: str | None = None, failures: Mapping[str, str] = MappingProxyType({})
) -> tuple[AutoStep, ...]:
    """What "auto" makes of every engine here, the one that is taken first.

    Args:
        order: engines in the order decided for a bundle, see `runtime.choice.decision.decide`; None explains what
            happens where nothing is known of a bundle.
        reason: why the first of them is taken.
        failures: why others cannot run the bundle.
    """
    unknown = f"the first of {', '.join(AUTO_ORDER)} that can run; what a bundle recorded or was tuned to goes before"
    steps: list[AutoStep] = []
    for key in dict.fromkeys((*(order or ()), *AUTO_ORDER, *PROVIDERS)):
        taken = next((step.provider for step in steps if step.taken), None)
        missing = unavailable_reason(PROVIDERS[key])
        if missing is not None:
            steps.append(AutoStep(key, False, missing))
        elif key not in AUTO_ORDER:
            steps.append(AutoStep(key, False, "can run, but is taken by name only: it builds engines for minutes"))
        elif key in failures:
            steps.append(AutoStep(key, False, f"can run, but not this bundle: {failures[key]}"))
        elif taken is not None:
            steps.append(AutoStep(key, False, f"can run, but {taken} comes first"))
        else:
            steps.append(AutoStep(key, True, reason or unknown))
    return tuple(steps)
