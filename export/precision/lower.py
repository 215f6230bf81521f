"""Lower precisions of one part: what was asked for, how artifacts are described, and whether fp32 stays beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from export.graphs import GraphInfo
from runtime.bundle import Artifact, FidelityRecord, ParityRecord
from runtime.bundle.artifacts import LeftOut, Recipe
from runtime.errors import InputError

__all__ = ["FAIL", "LEAVE_OUT", "SEARCH_MINUTES", "Lowering", "artifact", "fp32_stays"]

# Of `Lowering.on_miss`.
LEAVE_OUT, FAIL = "leave-out", "fail"
# For the search among the recipes of one part: BERT-base takes half a minute a recipe on 2 cores.
SEARCH_MINUTES = 10.0


@dataclass(frozen=True)
class Lowering:
    """What was asked for.

    Attributes:
        precisions: of `runtime.bundle.precisions.PRECISIONS`.
        tier: "99" or "99.9", for int8.
        tensorrt: also write the int8 spelling for TensorRT.
        enforced: whether figures are gated; those of random weights mean nothing and are reported only.
        on_miss: what becomes of a precision below fp32 that misses its gate, or that an engine cannot run: "leave-out"
            leaves it out of the bundle, and the manifest says so; "fail" ends the export with an error and no bundle.
        search_minutes: when the search among the int8 recipes of one part ends; of each graph one recipe is tried in
            any case.
    """

    precisions: tuple[str, ...] = ("fp32",)
    tier: str = "99"
    tensorrt: bool = False
    enforced: bool = True
    on_miss: str = LEAVE_OUT
    search_minutes: float = SEARCH_MINUTES

    def __post_init__(self) -> None:
        if self.on_miss not in (LEAVE_OUT, FAIL):
            raise InputError(f"on_miss is {self.on_miss!r}; '{LEAVE_OUT}' or '{FAIL}' is expected.")
        if not self.search_minutes > 0:
            raise InputError(f"search_minutes is {self.search_minutes!r}; a number above 0 is expected.")


def artifact(
    file: str,
    precision: str,
    info: GraphInfo,
    providers: tuple[str, ...],
    *,
    parity: tuple[ParityRecord, ...] = (),
    fidelity: tuple[FidelityRecord, ...] = (),
    recipe: Recipe | None = None,
) -> Artifact:
    """Describe a graph that was written with its weights beside it, in `<file>_data`."""
    return Artifact(
        role="embedding",
        precision=precision,
        file=file,
        external_data=((PurePosixPath(file).parent / f"{PurePosixPath(file).name}_data").as_posix(),),
        opset=info.opset,
        operators=info.operators,
        inputs=info.inputs,
        outputs=info.outputs,
        providers=providers,
        parity=parity,
        fidelity=fidelity,
        recipe=recipe,
    )


def fp32_stays(others: Iterable[Artifact], left_out: Iterable[LeftOut], lowering: Lowering) -> bool:
    """Whether a part keeps fp32: asked for, computed in bf16, or needed by an engine that else has nothing.

    An engine has nothing where no other artifact is there at all, or all that were meant for it were left out.

    Args:
        others: the part's artifacts of other precisions.
        left_out: of the part.
        lowering: what was asked for.
    """
    served = {name for found in others for name in found.providers}
    bereft = {name for left in left_out for name in left.providers} - served
    return "fp32" in lowering.precisions or "bf16" in lowering.precisions or not served or bool(bereft)
