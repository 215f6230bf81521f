"""What a model's config.pbtxt says of its task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.engine import Engine
from runtime.errors import InputError
from runtime.loading import load

__all__ = ["BUNDLE", "Settings"]

# Beside the folder of models, where `python -m export triton` puts it.
BUNDLE = "../../bundle"


@dataclass(frozen=True)
class Settings:
    """Parameters of a model, all optional but the task.

    Attributes:
        task: name in `runtime.triton.tasks.TASKS`.
        bundle: folder of the bundle; a relative path starts at the model's folder.
        provider: as for `runtime.load`; so are precision and threads.
        max_characters: of a text, before it is tokenized.
        max_pixels: of an image, by its header, before it is decoded.
    """

    task: str
    bundle: Path
    provider: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_characters: int = 20_000
    max_pixels: int = 50_000_000

    @staticmethod
    def read(arguments: Mapping[str, str]) -> Settings:
        """Read what Triton hands to `TritonPythonModel.initialize`.

        Args:
            arguments: "model_config", JSON, and "model_repository", the model's folder.

        Raises:
            InputError: a parameter that there is not, or a number that is none.
        """
        stated = json.loads(arguments["model_config"]).get("parameters", {})
        given = {key: value["string_value"] for key, value in stated.items()}
        known = ("task", "bundle", "provider", "precision", "threads", "max_characters", "max_pixels")
        # Triton adds the interpreter that it was told to use.
        unknown = [key for key in given if key not in known and key != "EXECUTION_ENV_PATH"]
        if unknown or "task" not in given:
            raise InputError(
                f"config.pbtxt has the parameters {', '.join(sorted(given)) or 'none'}; expected are 'task' and, if "
                f"wanted, {', '.join(known[1:])}."
            )
        return Settings(
            task=given["task"],
            bundle=Path(arguments["model_repository"], given.get("bundle", BUNDLE)),
            provider=given.get("provider", "auto"),
            precision=given.get("precision", "auto"),
            threads=_number("threads", given["threads"]) if "threads" in given else None,
            max_characters=_number("max_characters", given.get("max_characters", "20000")),
            max_pixels=_number("max_pixels", given.get("max_pixels", "50000000")),
        )

    def load(self, *parts: str) -> Engine:
        """The bundle, opened for some of its parts; raises as `runtime.load` does."""
        # Each model is a process of its own, and all of them use the same processors.
        return load(self.bundle, self.provider, self.precision, self.threads, parts=parts, share=True)


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"config.pbtxt: parameter {name} is '{text}'; a whole number of at least 1 is expected.")
    return int(text)
