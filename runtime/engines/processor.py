"""Which processor and which graphics processor this machine has."""

from __future__ import annotations

import ctypes
import functools
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.process.forks import started
from runtime.process.privacy import keep_cuda_private

__all__ = ["CUDA", "Gpu", "first_gpu", "processor_features", "processor_name"]

# The name under which `runtime.process.forks` knows that CUDA runs in this process.
CUDA = "CUDA"
_CUDA_DRIVER = {"win32": "nvcuda.dll"}
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256
# Instructions that matter to matrix products: as Linux and macOS spell them → as their makers do.
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512_VNNI",
    "avx_vnni": "AVX_VNNI",
    "avx_vnni_int8": "AVX_VNNI_INT8",
    "avx512_bf16": "AVX512_BF16",
    "avx512_fp16": "AVX512_FP16",
    "amx_bf16": "AMX_BF16",
    "amx_int8": "AMX_INT8",
    "amx_fp16": "AMX_FP16",
    "asimddp": "DotProd",
    "feat_dotprod": "DotProd",
    "asimdhp": "FP16",
    "feat_fp16": "FP16",
    "i8mm": "I8MM",
    "feat_i8mm": "I8MM",
    "bf16": "BF16",
    "feat_bf16": "BF16",
    "sve": "SVE",
}


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: its model name and compute capability, such as (8, 0)."""

    name: str
    capability: tuple[int, int]


@functools.cache
def processor_name() -> str:
    """Model name of the processor, or its architecture where the system does not tell; never empty.

    Virtual machines may hide the generation ("AMD EPYC"), so equal names do not prove equal processors.
    """
    return _model_name() or platform.processor() or platform.machine() or "unknown processor"


def processor_features(root: Path = Path("/")) -> tuple[str, ...] | None:
    """Instruction sets for matrix products that the processor has, such as AVX512_VNNI; None where it does not tell.

    Args:
        root: folder that has proc.
    """
    flags = _mac_flags() if sys.platform == "darwin" else _cpu_info(root, "flags", "Features").split()
    if not flags:
        return None
    found = {flag.lower() for flag in flags}
    return tuple(dict.fromkeys(name for flag, name in _FEATURES.items() if flag in found))


def _mac_flags() -> list[str]:
    """Names of `hw.optional…` and of Intel's leaf 7 that are set."""
    flags = _sysctl("machdep.cpu.leaf7_features").split()
    for line in _sysctl("hw.optional").splitlines():
        key, _, value = line.partition(":")
        if value.strip() == "1":
            flags.append(key.rpartition(".")[2])
    return flags


def _model_name() -> str:
    return _sysctl("-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else _cpu_info(Path("/"), "model name")


def _sysctl(*arguments: str) -> str:
    try:
        command = ["/usr/sbin/sysctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu_info(root: Path, *keys: str) -> str:
    """The first value of a key in /proc/cpuinfo, or nothing."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


@functools.cache
def first_gpu() -> Gpu | None:
    """The NVIDIA GPU that CUDA takes by default, or None where there is none or no driver."""
    try:
        driver = ctypes.CDLL(_CUDA_DRIVER.get(sys.platform, "libcuda.so.1"))
    except OSError:
        return None
    keep_cuda_private()
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0:
        return None
    started(CUDA)
    answered = (
        driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, _NAME_BYTES, device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device) == 0
    )
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value)) if answered else None
