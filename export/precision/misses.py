"""What misses its gate is left out of the bundle and recorded, or ends the export; what is proven stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.errors import GateError, GraphError
from export.precision.lower import FAIL, Lowering
from export.progress import Steps
from runtime.bundle import Artifact
from runtime.bundle.artifacts import LeftOut
from runtime.errors import CxrEngineError, MissingExtraError, ProviderError

__all__ = ["Asked", "Misses"]

# What says nothing against the others; anything else is wrong with the export as a whole, or with this program.
_ONE_PRECISION = (GateError, GraphError, ProviderError, MissingExtraError)


@dataclass(frozen=True)
class Asked:
    """What was asked for: a precision of a part, the file that it is to have, and the engines that it is meant for."""

    part: str
    precision: str
    file: str
    providers: tuple[str, ...]

    @staticmethod
    def of(part: str, artifact: Artifact) -> Asked:
        """What an artifact was made for."""
        return Asked(part, artifact.precision, artifact.file, artifact.providers)


class Misses:
    """What one export leaves out.

    Attributes:
        left_out: so far.
    """

    def __init__(self, bundle: Path, lowering: Lowering, steps: Steps) -> None:
        """Begin.

        Args:
            bundle: the folder that is being filled.
            lowering: whether anything may be left out, and the tier.
            steps: where it is said.
        """
        self.left_out: list[LeftOut] = []
        self._bundle = bundle
        self._lowering = lowering
        self._steps = steps

    def of(self, part: str) -> list[LeftOut]:
        """Those of a part so far."""
        return [each for each in self.left_out if each.part == part]

    @contextmanager
    def leaving_out(self, *asked: Asked, made: Iterable[str] = ()) -> Iterator[None]:
        """Do what makes and proves something; if it misses, or cannot be made or run, its files are gone afterwards.

        fp32 is never left out: where it differs from PyTorch nothing is proven.

        Args:
            asked: what is left out then.
            made: files of the bundle that were made before and go with it.

        Raises:
            GateError, GraphError, ProviderError, MissingExtraError: as raised inside, where nothing may be left out.
        """
        before = self._files()
        try:
            yield
        except _ONE_PRECISION as error:
            if self._lowering.on_miss == FAIL or any(each.precision == "fp32" for each in asked):
                raise
            for path in {*(self._files() - before), *(self._bundle / name for name in made)}:
                path.unlink(missing_ok=True)
            for each in asked:
                self._leave_out(each, error)

    def _files(self) -> set[Path]:
        return {path for path in self._bundle.glob("*/onnx/*") if path.is_file()}

    def _leave_out(self, asked: Asked, error: CxrEngineError) -> None:
        if isinstance(error, GateError):
            reason, cause = error.reason, error.cause
            required, best, trials = error.required, error.best, error.trials
        else:
            reason, cause = f"{type(error).__name__}: {error}", "error"
            required, best, trials = {}, {}, ()
        left = LeftOut(
            part=asked.part,
            precision=asked.precision,
            file=asked.file,
            providers=asked.providers,
            tier=self._lowering.tier if asked.precision.startswith("int8") else None,
            cause=cause,
            reason=reason,
            required=required,
            best=best,
            trials=trials,
        )
        self.left_out.append(left)
        self._steps.note(f"  {asked.part} {asked.precision} for {', '.join(asked.providers)} is left out: {reason}")
