"""Radiology-style sentences of our own, for parity checks and as words of the random vocabulary.

`TRIPLETS` are the synonym/contradiction triplets that the reference publishes (hi-ml-multimodal, MIT,
`test_multimodal/text/test_inference_engine.py`).
"""

from __future__ import annotations

__all__ = ["SENTENCES", "TRIPLETS"]

# (reference, synonym, contradiction)
TRIPLETS = (
    (
        "Heart size is top normal.",
        "The cardiac silhouette is normal in size.",
        "The heart is largely enlarged.",
    ),
    (
        "There is no pneumothorax or pleural effusion",
        "No pleural effusion or pneumothorax is seen",
        "The extent of the pleural effusion is constant.",
    ),
    (
        "The patient has been extubated.",
        "There has been interval extubation.",
        "The patient is intubated",
    ),
    (
        "The lungs are clear bilaterally.",
        "The lungs are unremarkable.",
        "The lungs are mostly clear aside from lower lung atelectasis.",
    ),
    (
        "No pleural effusions.",
        "Also, the lateral pleural sinuses are free, which excludes major pleural effusion.",
        "The loculated right pleural effusion has increased, and is now moderate in size.",
    ),
)

_FINDINGS = (
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "opacity",
    "pulmonary edema",
    "nodule",
    "cardiomegaly",
)
_PLACES = (
    "in the right upper lobe",
    "in the right lower lobe",
    "in the left lower lobe",
    "at the left lung base",
    "in both lungs",
)
_PATTERNS = (
    "There is a small {finding} {place}.",
    "No evidence of {finding} {place}.",
    "The previously described {finding} {place} has increased since the prior examination, and follow-up is suggested.",
)

SENTENCES = (
    *(text for triplet in TRIPLETS for text in triplet),
    *(
        pattern.format(finding=finding, place=_PLACES[(index + shift) % len(_PLACES)])
        for shift, pattern in enumerate(_PATTERNS)
        for index, finding in enumerate(_FINDINGS)
    ),
    "Endotracheal tube ends 4.5 cm above the carina; right internal jugular line in the SVC!",
    "Moderate [MASK] pleural effusions and associated [MASK]",
    "PA and lateral views: heart, mediastinum & hila are within normal limits (compared with 2019-03-07)...",
    "Café-au-lait naïve Ångström µm ≥ 3 — “quoted”, 胸部X線, \tTabs\u00a0and\u200bspaces\n",
    "",
)
