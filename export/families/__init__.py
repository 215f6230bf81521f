"""The table of systems that can be exported. A new system is one more row.

Imports `runtime`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from export.families.berts import BERTS
from export.families.chest import CHEST
from export.families.clips import CLIPS
from export.families.rows import Family, HubRepository, ImageModel, JointModel, TextAxes, TextModel

__all__ = ["FAMILIES", "Family", "HubRepository", "ImageModel", "JointModel", "TextAxes", "TextModel"]

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (*CHEST, *BERTS, *CLIPS)})
