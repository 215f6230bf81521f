"""Libraries without what they write and send by themselves.

ONNX Runtime from 1.29 on writes a device id and a queue of events into the home folder when it is imported, and looks
up its collector from nine seconds later on; importing OpenVINO or NNCF does both at once, through `openvino_telemetry`.
matplotlib, torch and CUDA's driver keep caches in the home folder or that of temporary files.

`runtime` runs inside other people's programs: `import_private` changes what a library sees while it is imported, and
puts it back. `export` and `bench` have their processes to themselves: they call `keep_private` before any library is
imported, and their child processes inherit what it set.

The user decides: CXR_ENGINE_TELEMETRY=1 leaves telemetry to the libraries, and a variable that is set is left as it is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.process.cache import cache_folder, home_folder
from runtime.process.forks import ForkSafeLock, opening

__all__ = ["TELEMETRY_VARIABLE", "import_private", "keep_cuda_private", "keep_private", "telemetry_wanted"]

TELEMETRY_VARIABLE = "CXR_ENGINE_TELEMETRY"
_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class _Habits:
    """How a library is kept from writing and sending.

    Attributes:
        switches: variables that turn its telemetry off, and their values.
        senders: modules that send; their import fails as if they were not installed, which the library allows for.
        folders: variables that name a folder it writes to → name of the folder that it is given.
        after: modules that write when they are first imported, long after the library itself.
        asks_for_home: whether it cannot be imported by a user without a home folder.
    """

    switches: Mapping[str, str] = field(default_factory=dict)
    senders: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    asks_for_home: bool = False


_OPENVINO_SENDERS = ("openvino_telemetry",)
# A new library is one more row.
_LIBRARIES: Mapping[str, _Habits] = {
    # Read once, while the library is imported (seen in 1.32): what is set or unset afterwards changes nothing.
    "onnxruntime": _Habits({"ORT_DISABLE_TELEMETRY": "1"}),
    "openvino": _Habits(senders=_OPENVINO_SENDERS),
    "nncf": _Habits({"ORT_DISABLE_TELEMETRY": "1"}, _OPENVINO_SENDERS, asks_for_home=True),
    "huggingface_hub": _Habits({"HF_HUB_DISABLE_TELEMETRY": "1"}),
    # The list of fonts, and an empty folder for settings.
    "matplotlib": _Habits(folders={"MPLCONFIGDIR": "matplotlib"}, after=("matplotlib.font_manager",)),
    # Made by importing torchvision, in the folder of temporary files.
    "torch": _Habits(folders={"TORCHINDUCTOR_CACHE_DIR": "torchinductor"}),
    "triton": _Habits(folders={"TRITON_CACHE_DIR": "triton"}),
    # Kernels that the driver compiles; not seen, for want of a GPU older or newer than the libraries know.
    "cuda": _Habits(folders={"CUDA_CACHE_PATH": "cuda"}),
}
# Settings and senders belong to the whole process, so one thread at a time changes them. Reentrant, since a library may
# import another.
_LOCK = ForkSafeLock(reentrant=True)
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <cachedir>{cache}</cachedir>
  <include ignore_missing="yes">{others}</include>
</fontconfig>
"""


def telemetry_wanted() -> bool:
    """Whether the user left telemetry to the libraries, with CXR_ENGINE_TELEMETRY=1."""
    return os.environ.get(TELEMETRY_VARIABLE, "").strip().lower() not in _OFF


def import_private(name: str) -> Any:
    """Import a library of the table above; the environment is afterwards what it was before.

    A library that the program imported earlier is taken as it is, except that ONNX Runtime is told to record no more.

    Args:
        name: "onnxruntime", "openvino", "nncf" or "matplotlib".

    Returns:
        The module.

    Raises:
        ImportError: it is not installed. A broken installation may raise anything else.
    """
    habits = _LIBRARIES[name]
    if name in sys.modules and all(module in sys.modules for module in habits.after):
        module = importlib.import_module(name)  # waits for a thread that is importing it
    else:
        with opening(), _LOCK, _changed(_while_imported(name)), _without(habits.senders):
            module = importlib.import_module(name)
            for other in habits.after:
                importlib.import_module(other)
    if name == "onnxruntime" and not telemetry_wanted():
        _record_no_more()
    return module


def keep_private() -> None:
    """Turn telemetry off and give caches a folder, for this process and those that it starts, for good."""
    for habits in _LIBRARIES.values():
        _set_for_good(habits)
    # Else the hub's client takes "~" for the name of a folder.
    if home_folder() is None and not os.environ.get("XDG_CACHE_HOME"):
        _set_for_good(_Habits(folders={"HF_HOME": "huggingface"}))


def keep_cuda_private() -> None:
    """The same for CUDA's driver alone, to be called before it starts: it may compile at any time."""
    _set_for_good(_LIBRARIES["cuda"])


def _set_for_good(habits: _Habits) -> None:
    with _LOCK:
        os.environ.update(_switches(habits))
        os.environ.update(_folders(habits))
        if not telemetry_wanted():
            for sender in habits.senders:
                sys.modules.setdefault(sender, None)  # type: ignore[arg-type]  # its import fails


def _while_imported(name: str) -> dict[str, str]:
    habits = _LIBRARIES[name]
    variables = {**_switches(habits), **_folders(habits)}
    if name == "matplotlib":
        variables |= _fontconfig()
        if "MPLCONFIGDIR" in variables:
            variables |= _own_matplotlibrc()
    if habits.asks_for_home and home_folder() is None and (folder := _folder()):
        variables["HOME"] = str(folder)
    return variables


def _switches(habits: _Habits) -> dict[str, str]:
    if telemetry_wanted():
        return {}
    return {name: value for name, value in habits.switches.items() if not os.environ.get(name)}


def _folders(habits: _Habits) -> dict[str, str]:
    wanted = {name: kind for name, kind in habits.folders.items() if not os.environ.get(name)}
    folder = _folder() if wanted else None
    return {name: str(folder / kind) for name, kind in wanted.items()} if folder else {}


@functools.cache
def _folder() -> Path | None:
    """Where libraries may write: in the user's cache folder, or a temporary one that is removed at the end."""
    kept = cache_folder("libraries")
    if kept is not None:
        return kept
    try:
        temporary = tempfile.mkdtemp(prefix="cxr-engine-")
    except OSError:  # nothing can be written anywhere
        return None
    atexit.register(_remove, temporary, os.getpid())
    return Path(temporary)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child runs its parent's farewells as well
        shutil.rmtree(folder, ignore_errors=True)


def _own_matplotlibrc() -> dict[str, str]:
    """The user's settings count still, though matplotlib looks for them elsewhere."""
    home = home_folder()
    base = os.environ.get("XDG_CONFIG_HOME") or (home and home / ".config")
    places = ([Path(base) / "matplotlib"] if base else []) + ([home / ".matplotlib"] if home else [])
    settings = next(filter(Path.is_file, (place / "matplotlibrc" for place in places)), None)
    return {} if settings is None or os.environ.get("MATPLOTLIBRC") else {"MATPLOTLIBRC": str(settings)}


def _fontconfig() -> dict[str, str]:
    """A place for fontconfig's cache, before the usual ones.

    matplotlib lists the fonts with fc-list, which renews what is out of date: in the home folder, as root in /var.
    """
    folder = _folder()
    if folder is None:
        return {}
    fonts = folder / "fonts.conf"
    others = os.environ.get("FONTCONFIG_FILE") or "/etc/fonts/fonts.conf"
    content = _FONTS.format(cache=_escaped(folder / "fontconfig"), others=_escaped(others))
    with contextlib.suppress(OSError):  # a full disk, say; then fonts are listed as ever
        if not (fonts.is_file() and fonts.read_text(encoding="utf-8") == content):
            partial = fonts.with_suffix(f".{os.getpid()}")
            partial.write_text(content, encoding="utf-8")
            partial.replace(fonts)  # another process may be listing fonts
        return {"FONTCONFIG_FILE": str(fonts)}
    return {}


def _escaped(path: str | Path) -> str:
    return str(path).replace("&", "&amp;").replace("<", "&lt;")


@contextlib.contextmanager
def _changed(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without(senders: tuple[str, ...]) -> Iterator[None]:
    """Have the import of modules fail, also of those that the program has, unless the user wants telemetry."""
    hidden = () if telemetry_wanted() else senders
    before = {name: sys.modules[name] for name in hidden if name in sys.modules}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        sys.modules.update(before)


@functools.cache
def _record_no_more() -> None:
    """Of ONNX Runtime on Windows, which reports to the system's event log, and one that was imported before."""
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "0":
        return
    onnxruntime = sys.modules["onnxruntime"]
    with contextlib.suppress(Exception):  # a torn installation, or one without the function
        onnxruntime.disable_telemetry_events()
