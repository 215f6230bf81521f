"""The table of systems that can be exported. A new system is one more entry in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from runtime.bundle.parts import PAIRS, Preprocessing, Tokenization

__all__ = ["FAMILIES", "Family", "HubRepository", "ImageModel", "JointModel", "TextAxes", "TextModel"]


@dataclass(frozen=True)
class HubRepository:
    """A pinned repository on the Hugging Face hub."""

    repo: str
    revision: str


@dataclass(frozen=True)
class TextModel:
    """A BERT-like text tower; its sizes come from the checkpoint's config.json.

    Attributes:
        model_types: what config.json may say; the first is the usual one.
        untyped: whether config.json may say nothing, as those of 2019 do.
        pooling: "cls" takes the first token's state, "mean" the average over all tokens, special ones among them; None
            what a folder of sentence-transformers says, and "mean" of any other, which is what that package takes.
        projection: "cxr-bert" where the two maps behind [CLS] follow, which config.json gives a projection_size for;
            "none" where an embedding is the pooled state, or what the folder's own Dense module makes of it.
        cleaning: see `runtime.bundle.parts.Tokenization`.
        masked_words: whether the head that scores words at masks must be there; None takes it where it is.
        lowercase: whether texts are lower-cased; None does what the checkpoint's files say, and where they say nothing
            what transformers does, which is yes.
        silent_tokenizer: whether tokenizer_config.json may be missing.
        modules: whether the folder may be one of sentence-transformers.
        harmless: prefixes of tensors that checkpoints carry and no output reads.
        tied: tensors that may be absent because they are another tensor: (name, the other's name).
        hints: what it means where all tensors with a prefix are missing: (prefix, the meaning and what to do).
    """

    model_types: tuple[str, ...] = ("bert",)
    untyped: bool = True
    pooling: str | None = None
    projection: str = "none"
    cleaning: str = "none"
    masked_words: bool | None = None
    lowercase: bool | None = None
    silent_tokenizer: bool = True
    modules: bool = True
    harmless: tuple[str, ...] = (
        "bert.pooler.",
        "pooler.",
        "bert.embeddings.position_ids",
        "embeddings.position_ids",
        "cls.seq_relationship.",
    )
    tied: tuple[tuple[str, str], ...] = (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    )
    hints: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TextAxes:
    """A text tower's data, once the checkpoint has decided what its row leaves open.

    Attributes:
        tokenization: for the manifest.
        pooling: see `runtime.bundle.parts.TextPart`; projection alike.
        lowercase: whether the tokenizer lower-cases texts; None: as its files say.
        lowercase_before: whether texts are lower-cased before that, as sentence-transformers does where it is told to.
    """

    tokenization: Tokenization
    pooling: str
    projection: str
    lowercase: bool | None = None
    lowercase_before: bool = False


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
class JointModel:
    """What joins the towers: the fields of `runtime.bundle.parts.Joint`, as hi-ml has them, which compares cosines."""

    logit_scale: float = 1.0
    logit_bias: float = 0.0
    score: str = PAIRS
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A system: what `python -m export NAME` exports.

    Attributes:
        hub: its repository; None where any checkpoint of the kind will do.
        layout: how its files lie: "hi-ml", a BERT's and beside them the image model's; see `export.checkpoints.layouts`.
    """

    name: str
    summary: str
    hub: HubRepository | None
    text: TextModel | None
    image: ImageModel | None = None
    joint: JointModel | None = None
    layout: str = "hi-ml"


_CXR_BERT_SPECIALIZED = HubRepository("microsoft/BiomedVLP-CXR-BERT-specialized", "v1.1")
# The repository has no tags; this is its last commit.
_CXR_BERT_GENERAL = HubRepository("microsoft/BiomedVLP-CXR-BERT-general", "93af83cefc6d3f7d0ef9a0b78b0d579452c6a546")
_CXR_BERT = TextModel(
    model_types=("cxr-bert", "bert"),
    untyped=False,
    pooling="cls",
    projection="cxr-bert",
    cleaning="trailing punctuation",
    masked_words=True,
    silent_tokenizer=False,
    modules=False,
    harmless=("bert.pooler.", "bert.embeddings.position_ids"),
    hints=(
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
    ),
)
# A plain BERT, whose file may carry the pooler and the next-sentence head of pretraining. Its config could not be read
# where this was written, hence both types.
_GENERAL = replace(
    _CXR_BERT,
    model_types=("bert", "cxr-bert"),
    projection="none",
    harmless=(*_CXR_BERT.harmless, "cls.seq_relationship."),
)
_BIOVIL_IMAGE = ImageModel(
    "biovil_image_resnet50_proj_size_128.pt",
    "02ce6ee460f72efd599295f440dbb453",
    Preprocessing("grey", "shortest", 512, "bilinear", 480, "even", mean=(0.0,), std=(1.0,)),
)
_BERT = TextModel()

_TABLE = (
    Family(
        "biovil",
        "CXR-BERT-specialized and its ResNet-50",
        _CXR_BERT_SPECIALIZED,
        _CXR_BERT,
        _BIOVIL_IMAGE,
        JointModel(),
    ),
    Family("cxr-bert-specialized", "the text encoder alone", _CXR_BERT_SPECIALIZED, _CXR_BERT),
    Family("cxr-bert-general", "the text model before specialization, [CLS] states", _CXR_BERT_GENERAL, _GENERAL),
    Family(
        "cxr-bert-general-mean",
        "the same, means of all tokens' states",
        _CXR_BERT_GENERAL,
        replace(_GENERAL, pooling="mean"),
    ),
    Family("biovil-image", "the image encoder alone", _CXR_BERT_SPECIALIZED, None, _BIOVIL_IMAGE),
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

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _TABLE})
