"""The table of systems that can be exported. A new system is one more entry in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from runtime.bundle.parts import Preprocessing

__all__ = ["FAMILIES", "Family", "HubRepository", "ImageModel", "TextModel"]


@dataclass(frozen=True)
class HubRepository:
    """A pinned repository on the Hugging Face hub."""

    repo: str
    revision: str


@dataclass(frozen=True)
class TextModel:
    """A BERT; its sizes come from the checkpoint's config.json.

    Attributes:
        model_types: what config.json may say; the first is the usual one.
        pooling: "cls" takes the first token's state, "mean" the average over all tokens, [CLS] and [SEP] among them.
        projection: whether a projection head follows; without one, config.json needs no projection_size, and an
            embedding is the last layer's state.
        harmless: prefixes of tensors that checkpoints carry and no output reads.
        tied: tensors that may be absent because they are another tensor: (name, the other's name).
        hints: what it means where all tensors with a prefix are missing: (prefix, the meaning and what to do).
    """

    model_types: tuple[str, ...] = ("cxr-bert", "bert")
    pooling: str = "cls"
    projection: bool = True
    harmless: tuple[str, ...] = ("bert.pooler.", "bert.embeddings.position_ids")
    tied: tuple[tuple[str, str], ...] = (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    )
    hints: tuple[tuple[str, str], ...] = (
        (
            "cls_projection_head.",
            "the projection head is missing, as in what BertForMaskedLM or BertModel saves: save the CXRBertModel "
            "that was trained, or export the model without it as cxr-bert-general",
        ),
        (
            "cls.predictions.",
            "the head that fills masks is missing, as in what BertModel saves: save the CXRBertModel or "
            "BertForMaskedLM that was trained",
        ),
    )


@dataclass(frozen=True)
class ImageModel:
    """An image tower.

    Attributes:
        weights_name: file name in the repository.
        weights_md5: md5 of the published file.
        preprocessing: of its pictures.
        architecture: "resnet50": a bottleneck ResNet with a projector of 1×1 convolutions.
        blocks: bottleneck blocks in each of the four stages ((3, 4, 6, 3) is ResNet-50).
        patch: side of the square of pixels that a patch embedding stands for; None where there are no such embeddings.
        images: pictures that an embedding is made of.
        embedding_size: size of the joint space.
        harmless: prefixes of tensors that checkpoints carry and no output reads.
    """

    weights_name: str
    weights_md5: str
    preprocessing: Preprocessing
    architecture: str = "resnet50"
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    patch: int | None = 32
    images: int = 1
    embedding_size: int = 128
    harmless: tuple[str, ...] = ("encoder.encoder.fc.",)

    @property
    def grid(self) -> int | None:
        """Patches per side; None where it embeds none."""
        return None if self.patch is None else self.preprocessing.crop // self.patch


@dataclass(frozen=True)
class Family:
    """A system: what `python -m export NAME` exports."""

    name: str
    summary: str
    hub: HubRepository
    text: TextModel | None
    image: ImageModel | None


_CXR_BERT_SPECIALIZED = HubRepository("microsoft/BiomedVLP-CXR-BERT-specialized", "v1.1")
# The repository has no tags; this is its last commit.
_CXR_BERT_GENERAL = HubRepository("microsoft/BiomedVLP-CXR-BERT-general", "93af83cefc6d3f7d0ef9a0b78b0d579452c6a546")
# A plain BERT, whose file may carry the pooler and the next-sentence head of pretraining. Its config could not be read
# where this was written, hence both types.
_GENERAL = TextModel(
    model_types=("bert", "cxr-bert"), projection=False, harmless=(*TextModel().harmless, "cls.seq_relationship.")
)
_BIOVIL_IMAGE = ImageModel(
    "biovil_image_resnet50_proj_size_128.pt",
    "02ce6ee460f72efd599295f440dbb453",
    Preprocessing("grey", "shortest", 512, "bilinear", 480, "even", mean=(0.0,), std=(1.0,)),
)

_TABLE = (
    Family("biovil", "CXR-BERT-specialized and its ResNet-50", _CXR_BERT_SPECIALIZED, TextModel(), _BIOVIL_IMAGE),
    Family("cxr-bert-specialized", "the text encoder alone", _CXR_BERT_SPECIALIZED, TextModel(), None),
    Family("cxr-bert-general", "the text model before specialization, [CLS] states", _CXR_BERT_GENERAL, _GENERAL, None),
    Family(
        "cxr-bert-general-mean",
        "the same, means of all tokens' states",
        _CXR_BERT_GENERAL,
        replace(_GENERAL, pooling="mean"),
        None,
    ),
    Family("biovil-image", "the image encoder alone", _CXR_BERT_SPECIALIZED, None, _BIOVIL_IMAGE),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _TABLE})
