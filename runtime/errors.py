"""Every error the runtime raises on purpose.

Each message names the thing, what came, what was expected and the next step.

    CxrEngineError
    ├── BundleError          the bundle is missing, incomplete, changed, too new, or lacks the part asked for
    ├── ProviderError        the inference engine asked for cannot run here
    ├── MissingExtraError    an optional package is needed and not installed
    ├── InputError           texts, images or arrays that cannot be used (also a ValueError)
    └── StandardOutputError  a command's result cannot be printed; of command lines alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "BundleError",
    "CxrEngineError",
    "DecodeError",
    "Fault",
    "InputError",
    "MissingExtraError",
    "ProviderError",
    "StandardOutputError",
]

_SHOWN_FAULTS = 20


class CxrEngineError(Exception):
    """Base of every error raised on purpose by this project."""


class BundleError(CxrEngineError):
    """The bundle is missing, incomplete, changed since export, of a newer schema, or lacks the part asked for."""


class ProviderError(CxrEngineError):
    """The inference engine asked for cannot run on this machine; the message says why and how to install it."""


class MissingExtraError(CxrEngineError):
    """An optional package is needed and not installed; the message gives the install command."""

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'cxr-engine[{extra}]'"
        )


class StandardOutputError(CxrEngineError):
    """A command's result cannot be written to standard output: it is closed, or its disk is full."""


class DecodeError(ValueError):
    """An image that cannot be used; the message is the reason. Callers name the image: see `Fault`."""


@dataclass(frozen=True)
class Fault:
    """One input that cannot be used.

    Attributes:
        index: position in the caller's list, from 0.
        name: what the caller would call the item: a file name, the text's beginning, "array".
        reason: what came, what was expected, the next step.
    """

    index: int
    name: str
    reason: str


class InputError(CxrEngineError, ValueError):
    """Texts, images or arrays that cannot be used.

    Attributes:
        faults: one entry per bad item, so that a caller can drop those and go on. Empty where the call as a whole is
            wrong (an empty list, say).
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)

    @classmethod
    def from_faults(
        cls, what: str, faults: Sequence[Fault], total: int, shown: int | None = _SHOWN_FAULTS
    ) -> InputError:
        """Build one error out of all bad items of a call.

        Args:
            what: plural name of the items, such as "texts".
            faults: the bad items.
            total: number of items in the call.
            shown: list at most so many in the message (`faults` always has all); None for all.
        """
        if len(faults) == 1 and total == 1:
            return cls(f"{faults[0].name}: {faults[0].reason}", faults)
        lines = [f"  [{fault.index}] {fault.name}: {fault.reason}" for fault in faults[:shown]]
        if len(lines) < len(faults):
            lines.append(f"  … and {len(faults) - len(lines)} more")
        return cls(f"{len(faults)} of {total} {what} cannot be used:\n" + "\n".join(lines), faults)
