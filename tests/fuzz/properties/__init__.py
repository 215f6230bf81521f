"""All properties, by name. A module of this folder is found by itself; it offers `PROPERTIES`: name → `Property`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from tests.fuzz.property import Property

__all__ = ["find_properties"]


def find_properties() -> Mapping[str, Property]:
    """Every property of every module here; imports what is tested."""
    found: dict[str, Property] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        found |= importlib.import_module(f"{__name__}.{module}").PROPERTIES
    return found
