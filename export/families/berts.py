"""BERTs: biomedical and clinical ones, and any other."""

from __future__ import annotations

from dataclasses import replace

from export.families.rows import Family, HubRepository, TextModel

__all__ = ["BERTS"]

_BERT = TextModel()

BERTS = (
    Family("bert", "any BERT, or folder of sentence-transformers around one", None, _BERT),
    # Earlier commits of both fill masks with a damaged head.
    Family(
        "biomedbert-abstract",
        "BERT of PubMed's abstracts (PubMedBERT)",
        HubRepository(
            "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "d673b8835373c6fa116d6d8006b33d48734e305d"
        ),
        replace(_BERT, masked_words=True),
    ),
    Family(
        "biomedbert-fulltext",
        "BERT of PubMed's abstracts and full texts",
        HubRepository(
            "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext", "e0f532731f2a0b77750ddfd2364988701675ae38"
        ),
        replace(_BERT, masked_words=True),
    ),
    Family(
        "bio-clinicalbert",
        "BERT of the notes of MIMIC-III (ClinicalBERT)",
        HubRepository("emilyalsentzer/Bio_ClinicalBERT", "d5892b39a4adaed74b92212a44081509db72f87b"),
        replace(_BERT, masked_words=True),
    ),
)
