"""What papers and model cards published of the tasks, to be cited beside what is measured.

Each figure stands in the source that is named. Other data, splits and versions give other figures: MS-CXR 0.1, of which
these are, has other boxes than 1.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PUBLISHED", "Published", "data_sets"]

_BOECKING = "Boecking et al., ECCV 2022; model card of CXR-BERT-specialized"
_BANNUR = "Bannur et al., CVPR 2023; model card of BioViL-T"
_ZHANG = "Zhang et al., NEJM AI 2025, supplementary table 10"


@dataclass(frozen=True)
class Published:
    """A row of a paper's table.

    Attributes:
        data: the data set, in lower case.
        system: as it is called there.
        figures: title of a column of the task → value.
        source: where it stands.
    """

    data: str
    system: str
    figures: Mapping[str, float]
    source: str


def _rows(data: str, source: str, titles: tuple[str, ...], rows: Mapping[str, tuple[float, ...]]) -> list[Published]:
    return [Published(data, system, dict(zip(titles, values, strict=True)), source) for system, values in rows.items()]


# Task → rows.
PUBLISHED: Mapping[str, tuple[Published, ...]] = MappingProxyType(
    {
        "ms-cxr": (
            *_rows(
                "ms-cxr",
                _BOECKING,
                ("|CNR|",),
                {
                    "ClinicalBERT baseline": (0.769,),
                    "PubMedBERT baseline": (0.773,),
                    "ConVIRT": (0.818,),
                    "GLoRIA": (0.930,),
                    "BioViL": (1.027,),
                    "BioViL-L": (1.142,),
                },
            ),
            # Signed, unlike the figures above, which is why BioViL's differs; see `runtime.tasks.grounding`.
            *_rows(
                "ms-cxr",
                _BANNUR,
                ("CNR", "mIoU"),
                {"BioViL": (1.07, 0.229), "BioViL-L": (1.21, 0.202), "BioViL-T": (1.33, 0.240)},
            ),
        ),
        "radnli": tuple(
            _rows(
                "radnli",
                _BANNUR,
                ("accuracy", "ROC-AUC"),
                {
                    "PubMedBERT": (0.8138, 0.727),
                    "CXR-BERT-general": (0.8759, 0.902),
                    "CXR-BERT-specialized": (0.8966, 0.932),
                    "BioViL-T": (0.9052, 0.947),
                },
            )
        ),
        "zero-shot": (
            *_rows("rsna", _ZHANG, ("accuracy",), {"BiomedCLIP": (0.7895,)}),
            *_rows("pcam", _ZHANG, ("accuracy",), {"BiomedCLIP": (0.7341,)}),
            *_rows("lc25000-lung", _ZHANG, ("accuracy",), {"BiomedCLIP": (0.6523,)}),
            *_rows("lc25000-colon", _ZHANG, ("accuracy",), {"BiomedCLIP": (0.9298,)}),
            *_rows("tcga-til", _ZHANG, ("mean AUROC",), {"BiomedCLIP": (0.6704,)}),
        ),
    }
)


def data_sets(task: str) -> tuple[str, ...]:
    """The data sets of a task of which something was published."""
    return tuple(dict.fromkeys(row.data for row in PUBLISHED.get(task, ())))
