"""What this machine is, which engines really run here, and what is in their way: `python -m runtime doctor`."""

from __future__ import annotations

import contextlib
import os
import platform
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from runtime.bundle import open_bundle
from runtime.choice.decision import Plan, decide
from runtime.choice.precision import MIN_FIDELITY
from runtime.choice.trial import kept_trials
from runtime.choice.trials import Trial
from runtime.choice.tuned import Row, read_tuning
from runtime.engines import PROVIDERS, Provider, first_gpu, processor_name, unavailable_reason
from runtime.engines.cores import find_cores, memory_limit
from runtime.engines.gpu import tensorrt_version
from runtime.engines.probe import probe_apart
from runtime.engines.processor import processor_features
from runtime.engines.providers import AutoStep, default_threads, explain_auto
from runtime.errors import CxrEngineError
from runtime.process import print_result

__all__ = ["examine", "find_conflicts", "print_report", "works"]

_WIDTH = 120
_COLUMN = 12
_GIB = 1 << 30
# Wheels of ONNX Runtime: each brings the same folder `onnxruntime`.
_ONNXRUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-cann",
    "onnxruntime-silicon",
    "onnxruntime-training",
)
_PACKAGES = ("numpy", *_ONNXRUNTIME_WHEELS, "openvino", "tensorrt")


def examine(bundle: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Look at this machine and try every engine.

    Args:
        bundle: also say what `runtime.load` would choose for it.

    Returns:
        JSON-ready: python, system, processor (name, features), cores (logical, allowed, physical, quota, threads),
        memory (total, limit), gpu (name, capability, or None), packages (name → version), engines (name → runs,
        reason, processor, bf16), auto (provider, taken and reason of each; with a bundle, for it), problems, and with a
        bundle: bundle (path, then provider, reason and choices, or error).
    """
    packages = _installed(_PACKAGES)
    gpu = _or_none(first_gpu)
    engines = {name: _engine(provider) for name, provider in PROVIDERS.items()}
    cores = find_cores()
    features = processor_features()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": {"name": processor_name(), "features": features and list(features)},
        "cores": {**asdict(cores), "threads": cores.threads},
        "memory": {"total": _total_memory(), "limit": memory_limit()},
        "gpu": gpu and {"name": gpu.name, "capability": ".".join(map(str, gpu.capability))},
        "packages": packages,
        "engines": engines,
        "auto": [asdict(step) for step in _or_none(explain_auto) or ()],
        "problems": _problems(packages, engines),
    }
    if bundle is not None:
        report["bundle"], steps = _bundle(bundle)
        if steps:
            report["auto"] = [asdict(step) for step in steps]
    return report


def works(report: dict[str, Any]) -> bool:
    """Whether an engine runs, and the bundle, if one was named, can be loaded."""
    return any(engine["runs"] for engine in report["engines"].values()) and "error" not in report.get("bundle", {})


def find_conflicts(packages: Iterable[str]) -> list[str]:
    """Packages that must not be installed together, and what to do.

    Args:
        packages: names of what is installed.
    """
    wheels = [name for name in _ONNXRUNTIME_WHEELS if name in set(packages)]
    if len(wheels) < 2:
        return []
    kept = "onnxruntime-gpu" if "onnxruntime-gpu" in wheels else wheels[0]
    return [
        f"{' and '.join(wheels)} are installed side by side and overwrite each other's files. "
        f"Uninstall all, then install one: pip uninstall -y {' '.join(wheels)} && pip install {kept}"
    ]


def _engine(provider: Provider) -> dict[str, Any]:
    try:
        reason = unavailable_reason(provider)
        if reason is None:
            fault = probe_apart(provider.name)
            reason = fault and f"it is installed but does not compute: {fault}"
        if reason is not None:
            return {"runs": False, "reason": reason, "processor": None, "bf16": None}
        return {
            "runs": True,
            "reason": None,
            "processor": provider.processor(),
            "bf16": provider.refuses("bf16") or "yes",
        }
    except Exception as error:  # a doctor does not fall ill
        return {"runs": False, "reason": f"{type(error).__name__}: {error}", "processor": None, "bf16": None}


def _problems(packages: dict[str, str], engines: dict[str, dict[str, Any]]) -> list[str]:
    """What is installed and yet does not run; an engine that is not installed is no problem."""
    problems = find_conflicts(packages)
    suspects = {
        "cpu": any(name in packages for name in _ONNXRUNTIME_WHEELS),
        "openvino": "openvino" in packages,
        "cuda": "onnxruntime-gpu" in packages,
        "tensorrt": "onnxruntime-gpu" in packages and "tensorrt" in packages,
    }
    problems += [
        f"{name} is installed but does not run: the reason stands with the engine"
        for name, engine in engines.items()
        if suspects[name] and not engine["runs"]
    ]
    if not any(engine["runs"] for engine in engines.values()):
        problems.append("No inference engine works here. Install one with: pip install 'cxr-engine[cpu]'")
    return problems


def _bundle(path: str | os.PathLike[str]) -> tuple[dict[str, Any], tuple[AutoStep, ...]]:
    """What `runtime.load` would choose with "auto", without loading, and what becomes of each engine."""
    found: dict[str, Any] = {"path": str(path)}
    open_questions: list[str] = []

    def kept(plans: Sequence[Plan]) -> Mapping[str, Trial]:
        trials = kept_trials(bundle, plans)
        if len(trials) < len(plans[0].choices):
            names = " and ".join(plan.provider.name for plan in plans)
            open_questions.append(f"; the first load() tries {names} side by side for 2 s")
        return trials

    try:
        bundle = open_bundle(path)
        plans, failures = decide(
            bundle, bundle.parts(), "auto", {}, MIN_FIDELITY, default_threads(), read_tuning(bundle), kept
        )
        reasons = {name: str(error) for name, error in failures.items()}
        if not plans:
            return {**found, "error": "; ".join(f"{name}: {reason}" for name, reason in reasons.items())}, ()
        best = plans[0]
        choices = [f"{choice}: {choice.reason}{_bulk(best.row(part))}" for part, choice in best.choices.items()]
        whole = "".join([best.reason, *open_questions])
        reason = whole.partition(": ")[2]
        steps = explain_auto([plan.provider.name for plan in plans], reason, reasons)
        return {**found, "provider": best.provider.name, "reason": whole, "choices": choices}, steps
    except CxrEngineError as error:
        return {**found, "error": str(error)}, ()
    except Exception as error:  # a doctor does not fall ill
        return {**found, "error": f"{type(error).__name__}: {error}"}, ()


def _bulk(row: Row | None) -> str:
    return f"; streams={row.streams}, batch={row.batch} as tuned" if row else ""


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(Exception):  # PackageNotFoundError, or torn metadata
            found[name] = metadata.version(name)
    if "tensorrt" not in found and "onnxruntime-gpu" in found:
        version = _or_none(tensorrt_version)
        if version is not None:
            found["tensorrt"] = version
    return found


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _or_none(function: Any) -> Any:
    try:
        return function()
    except Exception:  # a doctor does not fall ill
        return None


def print_report(report: dict[str, Any]) -> None:
    """Print what `examine` gave, for people."""
    processor, cores, memory, gpu = (report[name] for name in ("processor", "cores", "memory", "gpu"))
    _row("system", f"{report['system']}, Python {report['python']}")
    features = "features unknown" if processor["features"] is None else ", ".join(processor["features"]) or "plain"
    _row("processor", f"{processor['name']}: {features}")
    quota = "no CPU quota" if cores["quota"] is None else f"a CPU quota of {cores['quota']:g}"
    _row(
        "cores",
        f"{cores['logical']} logical, {cores['allowed']} allowed to this process on {cores['physical']} physical, "
        f"{quota}; computes with threads={cores['threads']}",
    )
    limit = "no limit" if memory["limit"] is None else f"limited to {memory['limit'] / _GIB:.1f} GiB"
    total = "unknown" if memory["total"] is None else f"{memory['total'] / _GIB:.1f} GiB"
    _row("memory", f"{total}, {limit}")
    _row("GPU", f"{gpu['name']}, compute capability {gpu['capability']}" if gpu else "no NVIDIA GPU or no driver")
    _row("packages", ", ".join(f"{name} {version}" for name, version in report["packages"].items()))
    print_result("engines")
    for name, engine in report["engines"].items():
        if engine["runs"]:
            bf16 = "computes in bf16" if engine["bf16"] == "yes" else f"no bf16: {engine['bf16'].partition(': ')[2]}"
            _row(f"  {name}", f"runs on {engine['processor']}; {bf16}")
        else:
            _row(f"  {name}", f"no: {engine['reason']}")
    _print_auto(report)
    for number, problem in enumerate(report["problems"] or ["none"]):
        _row("" if number else "problems", problem)


def _print_auto(report: dict[str, Any]) -> None:
    taken = [step for step in report["auto"] if step["taken"]]
    passed = [f"{step['provider']} {step['reason']}" for step in report["auto"] if _is_news(step, report)]
    text = f"takes {taken[0]['provider']}, {taken[0]['reason']}" if taken else "finds no engine"
    _row("auto", "; ".join([text, *passed]))
    bundle = report.get("bundle")
    if bundle is None:
        return
    if "error" in bundle:
        _row("bundle", f"{bundle['path']}: {bundle['error']}")
        return
    _row("bundle", f"{bundle['path']} on {bundle['provider']}")
    for choice in bundle["choices"]:
        _row("", choice)


def _is_news(step: dict[str, Any], report: dict[str, Any]) -> bool:
    """Whether the reason was not printed with the engine itself."""
    return not step["taken"] and bool(report["engines"][step["provider"]]["runs"])


def _row(label: str, text: str) -> None:
    lines = textwrap.wrap(text, _WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False) or [""]
    print_result(f"{label:{_COLUMN}}{lines[0]}")
    for line in lines[1:]:
        print_result(f"{'':{_COLUMN}}{line}")
