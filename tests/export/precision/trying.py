"""Searches among recipes that are names: a stub judge has the figures and the times of each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from export.errors import GraphError
from export.graphs import GraphInfo
from export.precision import Lowering
from export.precision.rivals import Rival
from export.precision.search import Candidate, Deadline, Found, Setting, search
from export.progress import Steps
from export.proof import Judge
from runtime.bundle import FidelityRecord
from runtime.engines import Provider
from runtime.errors import ProviderError

# Recipe → engine → mean centred cosine; nothing is ever lost of neighbours.
COSINES = {
    "cheap": {"cpu": 0.96, "openvino": 0.94},
    "dearer": {"cpu": 0.9892, "openvino": 0.97},
    "dearest": {"cpu": 0.9999, "openvino": 0.9998},
    "broken": {"cpu": float("nan"), "openvino": float("nan")},
}


# Recipe → milliseconds of a batch, of those that do not take 1.
MILLISECONDS: dict[str, float] = {}
BOTH = ("cpu", "openvino")


class StubJudge(Judge):
    """Measures a graph by its file, which holds a recipe's name: it is its own session, too."""

    def record(self, engine, model, precision, gates, computed=None):
        name = model.read_text()
        if name == "cannot run":
            raise ProviderError(f"{engine.name} cannot open it")
        figures = {"mean_centred_cosine": COSINES[name][engine.name], "min_cosine": 0.9, "neighbour_regret": 0.0}
        kept = {name: bound for name, bound in gates.items() if name in figures}
        milliseconds = MILLISECONDS.get(name, 1.0)
        return FidelityRecord(engine.name, precision, "here", 10, "digest", figures, kept, milliseconds)


def stub_engine(name: str) -> Provider:
    def opens(model, options):
        return model.read_text()

    return Provider(name, "", "", lambda: None, opens, bf16_missing=lambda: None, processor=str)


class Trying:
    """A search in which a recipe's file holds its name.

    Attributes:
        written: names of the recipes that were tried.
        timed: files that were timed again, in turns with their rivals.
    """

    def __init__(
        self,
        tmp_path: Path,
        lowering: Lowering,
        rivals: Mapping[str, Rival] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.written: list[str] = []
        self.timed: list[str] = []
        self.again: dict[str, float] = {}
        self._target = tmp_path / "model.onnx"
        engines = tuple(map(stub_engine, BOTH))
        judge = StubJudge(lambda session: {}, self._milliseconds, 10, "digest", engines)
        deadline = deadline or Deadline(1)
        steps = Steps(Console(quiet=True))
        self._setting = Setting("text", judge, lowering, steps, rivals or {}, deadline)

    def _milliseconds(self, session: str) -> float:
        self.timed.append(session)
        return self.again[session]

    def candidate(self, name: str, providers: tuple[str, ...]) -> Candidate:
        def write(target: Path) -> GraphInfo:
            self.written.append(name)
            if name == "cannot be written":
                raise GraphError("no such operator")
            target.write_text(name)
            return GraphInfo(18, {}, (), ())

        return Candidate(name, {"name": name}, write, providers)

    def run(self, *forms: list[str], providers: tuple[str, ...] = BOTH) -> Found:
        """Search among forms, each a list of names; see `search`."""
        made = [[partial(self.candidate, name, providers) for name in names] for names in forms]
        return search(made, self._target, "int8", self._setting)
