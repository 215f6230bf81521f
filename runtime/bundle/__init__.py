"""A bundle: its manifest, its folder, and files that are what their digests say.

Imports `process`, `files` and `engines`.
"""

from runtime.bundle.artifacts import Artifact, FidelityRecord, ParityRecord
from runtime.bundle.folder import EMBEDDING, FILL_MASK, PACKED, PAIR, PATCHES, WORDS, Bundle, open_bundle
from runtime.bundle.manifest import MANIFEST_NAME, Manifest

__all__ = [
    "EMBEDDING",
    "FILL_MASK",
    "MANIFEST_NAME",
    "PACKED",
    "PAIR",
    "PATCHES",
    "WORDS",
    "Artifact",
    "Bundle",
    "FidelityRecord",
    "Manifest",
    "ParityRecord",
    "open_bundle",
]
