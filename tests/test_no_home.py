"""A user without a home, whose packages belong to someone else, uses every engine and every command.

As `docker run --user 54321` does it: no HOME, no entry among the users, nothing in site-packages that can be written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import System
from tests.empty_home import RUN_COMMANDS, Machine, commands

pytestmark = pytest.mark.slow

USER = "54321"
# Another user, who may read what root may: temporary folders and environments often lie where nobody else looks.
BECOME = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
PROVIDERS = ("cpu", "openvino")
_LIBRARY = """
import sys, runtime
from pathlib import Path
from PIL import Image
from runtime.tasks.overlay import draw_overlay
bundle, film, providers = sys.argv[1:]
for provider in providers.split(","):
    engine = runtime.load(bundle, provider=provider)
    engine.text.encode("Clear lungs")
    draw_overlay(Image.open(film), engine.ground(film, "opacity"), "opacity", Path("ground.png"))
print("done")
"""


def installed() -> list[str]:
    from runtime.engines import PROVIDERS as KNOWN

    return [name for name in PROVIDERS if KNOWN[name].missing() is None]


@pytest.fixture
def stranger(tmp_path: Path) -> Machine:
    """The folders of a user who is named by a number."""
    tried = subprocess.run([*BECOME, "true"], capture_output=True, check=False) if shutil.which("setpriv") else None
    if tried is None or tried.returncode != 0:
        pytest.skip("setpriv may not change the user here")
    machine = Machine.make(tmp_path)
    for folder in (machine.out, machine.root / "tmp"):
        os.chown(folder, int(USER), int(USER))
    return machine


def run(machine: Machine, home: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = machine.environment()
    for name in ("HOME", "CXR_ENGINE_CACHE", "PYTHONDONTWRITEBYTECODE"):
        del environment[name]
    return subprocess.run(
        [*BECOME, sys.executable, *arguments],
        cwd=machine.out,
        env=environment if home is None else {**environment, "HOME": home},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_command_without_a_home(stranger: Machine, tiny: System, provider: str) -> None:
    if provider not in installed():
        pytest.skip(f"{provider} is not installed")
    *others, tune = commands(tiny.bundle, stranger.film, provider)
    done = run(stranger, None, "-c", RUN_COMMANDS, json.dumps(others))
    assert done.returncode == 0, done.stderr
    assert "pip install" not in done.stderr
    assert (stranger.out / "ground.png").is_file()
    assert stranger.left() == set()
    # What was measured is printed; that it is not kept is said with what to do.
    done = run(stranger, None, "-m", "runtime", *tune)
    assert done.returncode == 1
    assert provider in done.stdout
    assert "CXR_ENGINE_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("home", ["/nonexistent", "/", "", "relative", "{root}/home"])
def test_a_home_that_cannot_be_used(stranger: Machine, tiny: System, home: str) -> None:
    """Not there, the root folder, none, no absolute path, one that only root may write."""
    named = home.format(root=stranger.root)
    arguments = (str(tiny.bundle), str(stranger.film), ",".join(installed()))
    done = run(stranger, named, "-c", _LIBRARY, *arguments)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.count("CXR_ENGINE_CACHE") <= 1
    assert stranger.left() == set()
    assert [path.name for path in stranger.out.iterdir()] == ["ground.png"]


def test_what_exports_is_imported_without_a_home(stranger: Machine) -> None:
    """torch asks for the user's name, the hub's client for the home folder."""
    code = """
import os, export.build, export.precision.int8_image, huggingface_hub.constants as hub
export.precision.int8_image._import_nncf()
print(hub.HF_HOME, os.environ["TMPDIR"])
"""
    done = run(stranger, None, "-c", code)
    assert done.returncode == 0, done.stderr
    hub, temporary = done.stdout.split()
    assert Path(hub).is_relative_to(temporary)
    assert list(stranger.out.iterdir()) == []
    assert stranger.left() == set()
