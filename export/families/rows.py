"""What a row of the table of systems says."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.parts import PAIRS, Preprocessing, Tokenization, WordAttention

__all__ = ["Family", "HubRepository", "ImageModel", "JointModel", "TextAxes", "TextModel"]


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
        given: what is given as a checkpoint where there is no repository; "" for any of the kind.
    """

    name: str
    summary: str
    hub: HubRepository | None
    text: TextModel | None
    image: ImageModel | None = None
    joint: JointModel | None = None
    layout: str = "hi-ml"
    given: str = ""
