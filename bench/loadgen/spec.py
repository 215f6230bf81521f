"""What a process is told in which LoadGen drives one engine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Spec"]


@dataclass(frozen=True)
class Spec:
    """What a worker is told.

    Attributes:
        bundle: folder.
        contestant: name of the engine; where provider or precision is "auto", what that comes to is added.
        provider: as for `runtime.load`.
        precision: as for `runtime.load`.
        system: a key of `SYSTEMS`.
        runs: (scenario, mode), in order.
        threads: of the engine.
        official: the rules' durations and counts.
        seconds: of a performance run that is not official.
        target_qps: Server's; None looks for one.
        bound_seconds: Server's; None takes the system's.
        seed: of the library, and of LoadGen where it is not official.
        logs: folder for LoadGen's logs.
        results: file to which runs are added.
        alive: file whose time of change is a sign of life.
    """

    bundle: str
    contestant: str
    provider: str
    precision: str
    system: str
    runs: list[tuple[str, str]]
    threads: int
    official: bool
    seconds: float
    target_qps: float | None
    bound_seconds: float | None
    seed: int
    logs: str
    results: str = ""
    alive: str = ""

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Spec:
        """What `to_json` wrote."""
        content = json.loads(text)
        return Spec(**{**content, "runs": [(scenario, mode) for scenario, mode in content["runs"]]})
