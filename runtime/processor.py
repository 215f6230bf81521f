"""Which processor and which graphics processor this machine has."""

from __future__ import annotations

import ctypes
import functools
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gpu", "first_gpu", "processor_name"]

_CUDA_DRIVER = {"win32": "nvcuda.dll"}
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


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


def _model_name() -> str:
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return ""


@functools.cache
def first_gpu() -> Gpu | None:
    """The NVIDIA GPU that CUDA takes by default, or None where there is none or no driver."""
    try:
        driver = ctypes.CDLL(_CUDA_DRIVER.get(sys.platform, "libcuda.so.1"))
    except OSError:
        return None
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    answered = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, _NAME_BYTES, device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device) == 0
    )
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value)) if answered else None
