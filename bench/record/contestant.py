"""Something that workloads are run through, as a report names it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CPU", "GPU", "ON_GPU", "Contestant", "on_device"]

# What a contestant computes on.
CPU, GPU = "cpu", "gpu"
# How the names of matrix products on a GPU begin.
ON_GPU = "gpu-"
# How those of peers there end.
_AFTER = "-gpu"


@dataclass(frozen=True)
class Contestant:
    """One of them.

    Attributes:
        name: short and stable, such as "engine-openvino-int8" or "torch-bf16".
        label: for people.
        kind: "reference" (what all are compared with), "peer" or "engine" (this project's).
        how: for peers "as run" by their users or "tuned" by those who know them; of the engine "".
        provider: of the engine, else "".
        precision: "fp32", "bf16", "int8" …: what its answers are judged as, and whose rate is its limit.
        note: what should be known of how it runs, or "".
        device: what it computes on, `CPU` or `GPU`.
        our_graph: of peers, whether it runs a graph of the bundle; then it is nothing that a user has without this
            project.
    """

    name: str
    label: str
    kind: str
    how: str = ""
    provider: str = ""
    precision: str = "fp32"
    note: str = ""
    device: str = CPU
    our_graph: bool = False

    @property
    def others_int8(self) -> bool:
        """Whether it is an int8 that users get from other tools."""
        return self.kind == "peer" and self.precision.startswith("int8") and not self.our_graph

    @property
    def rate(self) -> str:
        """The name of the matrix product that says what is attainable: its precision, on a GPU after `ON_GPU`."""
        return f"{ON_GPU}{self.precision}" if self.device == GPU else self.precision


def on_device(name: str, on_gpu: bool) -> str:
    """The name of a peer, or that of the same peer on a GPU, which may be the one that is named."""
    return name if not on_gpu or name.endswith(_AFTER) else f"{name}{_AFTER}"
