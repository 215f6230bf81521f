"""Which engines are installed, and whether what is installed loads."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata

from runtime.engines.gpu import library_fault
from runtime.engines.processor import CUDA, first_gpu
from runtime.process import import_private
from runtime.process.cache import home_folder
from runtime.process.forks import lost
from runtime.process.privacy import TELEMETRY_VARIABLE, telemetry_wanted

__all__ = ["gpu_lacks", "import_fault", "onnxruntime_lacks"]

_REINSTALL = "pip install --force-reinstall --no-deps"
_NO_HOME = f"Its telemetry needs a home folder: set HOME to a folder that is there, or unset {TELEMETRY_VARIABLE}."


def onnxruntime_lacks(execution_provider: str) -> Callable[[], str | None]:
    """A function that says why ONNX Runtime has no such execution provider here, or None."""

    def missing() -> str | None:
        broken = import_fault("onnxruntime")
        if broken:
            return broken
        onnxruntime = import_private("onnxruntime")
        if not hasattr(onnxruntime, "get_available_providers"):  # a folder that an uninstallation left
            return _broken("onnxruntime", "it is empty")
        available = onnxruntime.get_available_providers()
        if execution_provider in available:
            return None
        return f"this onnxruntime build has only {', '.join(available)}"

    return missing


def gpu_lacks(execution_provider: str) -> Callable[[], str | None]:
    """The same for one that needs CUDA's libraries and a GPU."""
    not_built_in = onnxruntime_lacks(execution_provider)

    def missing() -> str | None:
        # onnxruntime-gpu lists CUDA and TensorRT wherever it is installed.
        reason = not_built_in() or lost(CUDA) or library_fault(execution_provider)
        if reason is None and first_gpu() is None:
            return "there is no NVIDIA GPU, or its driver does not answer; nvidia-smi tells."
        return reason

    return missing


def import_fault(package: str) -> str | None:
    """Why a package cannot be imported, or None. A whole sentence says itself what to do."""
    if importlib.util.find_spec(package) is None:
        # Uninstalling one of two wheels that share their files takes the files of both.
        lost = [name for name in (package, f"{package}-gpu") if _listed(name)]
        gone = f": pip lists it, but its files are gone. Install it anew with: {_REINSTALL} {lost[0]}." if lost else ""
        return f"the package '{package}' is not installed{gone}"
    try:
        import_private(package)
    except Exception as error:  # a broken installation raises anything
        if telemetry_wanted() and home_folder() is None:
            return f"the package '{package}' cannot be imported ({error}). {_NO_HOME}"
        return _broken(package, str(error))
    return None


def _broken(package: str, fault: str) -> str:
    return (
        f"the package '{package}' is installed but cannot be imported ({fault}). "
        f"Install it anew with: {_REINSTALL} {package}."
    )


def _listed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except Exception:  # PackageNotFoundError, or torn metadata
        return False
