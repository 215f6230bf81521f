"""The table of systems that can be exported. A new system is one more entry in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from runtime.bundle.parts import PAIRS, SOFTMAX, Preprocessing, Tokenization, WordAttention
from runtime.tasks.templates import TEMPLATE_SETS

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
        pooling: "cls" takes the first token's state, "mean" the average over all tokens, special ones among them, "eos"
            the last token's; None
            what a folder of sentence-transformers says, and "mean" of any other, which is what that package takes.
            Where both towers lie in one file, that decides this and the next.
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
    """An image tower. Where both towers lie in one file, that decides sizes and preprocessing.

    Attributes:
        weights_name: file name in the repository; "" where the weights lie in one file with the text tower's.
        weights_md5: md5 of the published file.
        preprocessing: of its pictures.
        architecture: "resnet50": a bottleneck ResNet with a projector of 1×1 convolutions; "resnet50+transformer": the
            same with a transformer that compares the image with a previous one; "vit": a vision transformer.
        blocks: bottleneck blocks in each of the four stages ((3, 4, 6, 3) is ResNet-50).
        patch: side of the square of pixels that a patch embedding stands for; None where there are no such embeddings.
        images: pictures that an embedding may be made of.
        embedding_size: size of the joint space.
        harmless: prefixes of tensors that checkpoints carry and no output reads.
        enlarged: side that the network enlarges pixels to; None where it takes them as they are.
        hints: as of `TextModel`.
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
    enlarged: int | None = None
    hints: tuple[tuple[str, str], ...] = ()

    @property
    def grid(self) -> int | None:
        """Patches per side; None where it embeds none."""
        return None if self.patch is None else -(-(self.enlarged or self.preprocessing.crop) // self.patch)


@dataclass(frozen=True)
class JointModel:
    """What joins the towers: the fields of `runtime.bundle.parts.Joint`, as hi-ml has them, which compares cosines."""

    logit_scale: float = 1.0
    logit_bias: float = 0.0
    score: str = PAIRS
    templates: tuple[str, ...] = ()
    attention: WordAttention | None = None


@dataclass(frozen=True)
class Family:
    """A system: what `python -m export NAME` exports.

    Attributes:
        hub: its repository; None where any checkpoint of the kind will do.
        layout: how its files lie: "hi-ml", a BERT and an image model beside it; "clip", both towers in one file;
            "gloria", a file of Lightning; "convirt", a file of safetensors; see `export.checkpoints.layouts`.
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
_BIOVIL_T = HubRepository("microsoft/BiomedVLP-BioViL-T", "v1.0")
# config.json says "bert" at that revision, and nothing on the main branch since 2024.
_BIOVIL_T_TEXT = replace(_CXR_BERT, model_types=("bert", "cxr-bert"), untyped=True)
_BIOVIL_T_IMAGE = ImageModel(
    "biovil_t_image_model_proj_size_128.pt",
    "a83080e2f23aa584a4f2b24c39b1bb64",
    replace(_BIOVIL_IMAGE.preprocessing, crop=448),
    "resnet50+transformer",
    images=2,
    hints=(
        (
            "encoder.vit_pooler.",
            "what compares images is missing, as in BioViL's image model: export that as biovil or biovil-image",
        ),
    ),
)
_BERT = TextModel()
# Of the pictures that torchvision's ResNets are trained on first, as ConVIRT's was.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Of OpenAI's models; open_clip's and Fashion-CLIP's are the same where their files say nothing else.
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CLIP_PIXELS = Preprocessing("rgb", "shortest", 224, "bicubic", 224, "down", _CLIP_MEAN, _CLIP_STD)
_CLIP_TEXT = TextModel(("clip",), untyped=False, pooling="eos", projection="linear", masked_words=False, modules=False)


def _vit(patch: int, embedding_size: int) -> ImageModel:
    """An image tower whose weights lie in one file with the text tower's."""
    return ImageModel("", "", _CLIP_PIXELS, "vit", (), patch, embedding_size=embedding_size)


def _softmax(templates: str) -> JointModel:
    """Labels beside each other; the scale is the checkpoint's."""
    return JointModel(score=SOFTMAX, templates=TEMPLATE_SETS[templates].templates.positive)


def _clip(name: str, summary: str, hub: HubRepository | None, image: ImageModel, templates: str = "imagenet") -> Family:
    return Family(name, summary, hub, _CLIP_TEXT, image, _softmax(templates), "clip")


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
    Family(
        "biovil-t",
        "CXR-BERT of its own and a ResNet-50 whose images may be compared with previous ones",
        _BIOVIL_T,
        _BIOVIL_T_TEXT,
        _BIOVIL_T_IMAGE,
        JointModel(),
    ),
    Family("cxr-bert-biovil-t", "the text encoder alone", _BIOVIL_T, _BIOVIL_T_TEXT),
    Family("biovil-t-image", "the image encoder alone", _BIOVIL_T, None, _BIOVIL_T_IMAGE),
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
    # The weights on the main branch were replaced once; this is the commit that the others are compared with.
    Family(
        "biomedclip",
        "PubMedBERT and a ViT-B/16, trained on figures of PubMed Central",
        HubRepository(
            "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "9f341de24bfb00180f1b847274256e9b65a3a32e"
        ),
        TextModel(pooling="cls", projection="mlp", masked_words=False, modules=False),
        _vit(16, 512),
        _softmax("biomedclip-photo"),
        "clip",
    ),
    _clip(
        "clip-vit-base-patch32",
        "OpenAI's CLIP, ViT-B/32",
        HubRepository("openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"),
        _vit(32, 512),
    ),
    _clip(
        "clip-vit-base-patch16",
        "OpenAI's CLIP, ViT-B/16",
        HubRepository("openai/clip-vit-base-patch16", "57c216476eefef5ab752ec549e440a49ae4ae5f3"),
        _vit(16, 512),
    ),
    _clip(
        "clip-vit-large-patch14",
        "OpenAI's CLIP, ViT-L/14",
        HubRepository("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
        _vit(14, 768),
    ),
    _clip(
        "fashion-clip",
        "CLIP ViT-B/32 tuned on pictures of a shop",
        HubRepository("patrickjohncyh/fashion-clip", "7e3ba62ce16b379a1ab479346b66f192e76f51b7"),
        _vit(32, 512),
        "fashion-clip",
    ),
    _clip("clip", "any CLIP with a vision transformer, in transformers' or open_clip's files", None, _vit(16, 512)),
    Family(
        "gloria",
        "Bio_ClinicalBERT and a ResNet-50 by GLoRIA, words attending to regions; trained on CheXpert",
        None,
        TextModel(pooling="layers", cleaning="gloria", masked_words=False, lowercase=True, modules=False),
        ImageModel(
            "",
            "",
            Preprocessing("luminance", "longest by factor", 256, "area", 224, "even", (0.5,), (0.5,)),
            "resnet50-local",
            patch=16,
            embedding_size=768,
            harmless=("model.fc.",),
            enlarged=299,
        ),
        # Its training divides cosines by 0.1.
        JointModel(logit_scale=10.0, score="softmax", attention=WordAttention(4.0, 5.0)),
        "gloria",
    ),
    Family(
        "convirt",
        "the shape of ConVIRT, of which no weights were published: a BERT and a ResNet-50 with two-layer heads",
        None,
        TextModel(("convirt",), False, "max", "mlp", masked_words=False, modules=False),
        ImageModel(
            "",
            "",
            Preprocessing("luminance", "shortest", 224, "bilinear", 224, "even", *_IMAGENET),
            "resnet50-mlp",
            patch=None,
            embedding_size=512,
            harmless=("model.fc.",),
        ),
        JointModel(logit_scale=10.0, score="softmax"),
        "convirt",
    ),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _TABLE})
