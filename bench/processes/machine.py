"""Where a run took place, and with what."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

from runtime.engines import first_gpu, processor_name
from runtime.engines.cores import find_cores, memory_limit
from runtime.engines.processor import processor_features

__all__ = ["describe_machine", "load_average", "versions", "versions_elsewhere"]

_DISTRIBUTIONS = (
    "cxr-engine",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
    "hi-ml-multimodal",
    "open-clip-torch",
    "timm",
    "sentence-transformers",
    "onnx",
    "mlcommons-loadgen",
)
_PEERS = ("transformers", "optimum-onnx", "optimum-intel", "sentence-transformers", "fastembed", "onnxruntime")
_VERSIONS = """
import json, platform, sys
from importlib import metadata
found = {"python": platform.python_version()}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_SECONDS = 60
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_MEMORY = Path("/proc/meminfo")


def describe_machine() -> dict[str, str]:
    """What a reader has to know to judge the figures, in the order to be shown."""
    cores = find_cores()
    gpu = first_gpu()
    return {
        "processor": processor_name(),
        "instruction sets": ", ".join(processor_features() or ()) or "unknown",
        "cores": f"{cores.physical} physical, {cores.allowed} of {cores.logical} logical usable"
        + ("" if cores.quota is None else f", a quota of {cores.quota:g}"),
        "memory": _memory(),
        "GPU": gpu.name if gpu else "none",
        "frequency governor": _read(_GOVERNOR) or "not told by this system",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "load before": load_average(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def load_average() -> str:
    """Processes that wanted to run, in the mean of the last 1, 5 and 15 minutes."""
    try:
        return ", ".join(f"{value:.2f}" for value in os.getloadavg())
    except (OSError, AttributeError):  # Windows
        return "not told by this system"


def versions() -> dict[str, str]:
    """Python's, and of every library at hand that takes part."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions_elsewhere(python: Path | None) -> dict[str, str]:
    """Those of the peers' environment, as "NAME (peers)"; nothing where there is none."""
    if python is None or not python.is_file():
        return {}
    finished = subprocess.run(
        [python, "-c", _VERSIONS, json.dumps(_PEERS)], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    found = json.loads(finished.stdout) if finished.returncode == 0 else {}
    return {f"{name} (peers)": version for name, version in found.items()}


def _memory() -> str:
    total = _read(_MEMORY).split()
    known = f"{int(total[1]) / 2**20:.1f} GiB" if len(total) > 1 else "not told by this system"
    limit = memory_limit()
    return known if limit is None else f"{known}, limited to {limit / 2**30:.1f} GiB"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
