"""The parts of a bundle as the manifest has them: a text tower, an image tower, and what joins them.

What differs between systems is data here; no code of this package asks for a family's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.artifacts import Artifact

__all__ = [
    "AREA",
    "BYTE_PAIRS",
    "CLEANINGS",
    "COLOURS",
    "COSINES",
    "CROP_ROUNDINGS",
    "CUT",
    "FTFY",
    "GREY",
    "INTERPOLATIONS",
    "LUMINANCE",
    "NO_CLEANING",
    "PAIRS",
    "REFUSED",
    "RESIZES",
    "RGB",
    "RGB_AFTER",
    "SCORES",
    "SENTENCES",
    "SOFTMAX",
    "STRIP_PUNCTUATION",
    "TOKENIZERS",
    "WORD_PIECES",
    "ImagePart",
    "Joint",
    "Preprocessing",
    "TextPart",
    "Tokenization",
    "WordAttention",
]

# Of the fields of `Tokenization`.
WORD_PIECES, BYTE_PAIRS = "wordpiece", "bpe"
TOKENIZERS = (WORD_PIECES, BYTE_PAIRS)
NO_CLEANING, STRIP_PUNCTUATION, FTFY, SENTENCES = "none", "trailing punctuation", "ftfy", "gloria"
CLEANINGS = (NO_CLEANING, STRIP_PUNCTUATION, FTFY, SENTENCES)
REFUSED, CUT = "refused", "cut"
# Of the fields of `Preprocessing`.
GREY, LUMINANCE, RGB, RGB_AFTER = "grey", "luminance", "rgb", "rgb after resizing"
COLOURS = (GREY, LUMINANCE, RGB, RGB_AFTER)
RESIZES = ("shortest", "longest", "longest by factor", "squash")
AREA = "area"
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", AREA)
CROP_ROUNDINGS = ("even", "down")
# Of `Joint.score`.
PAIRS, SOFTMAX = "pairs", "softmax"
SCORES = (PAIRS, SOFTMAX, "sigmoid")


@dataclass(frozen=True)
class Tokenization:
    """From a text to the token ids that the graph takes.

    Attributes:
        tokenizer: what tokenizer.json holds: "wordpiece", BERT's; or "bpe", CLIP's pairs of bytes.
        max_length: longest input in tokens, special tokens included.
        too_long: what becomes of longer texts, as in the reference: "refused", or "cut" to max_length with the special
            tokens at their ends.
        cleaning: what is done to a text before it is tokenized: "none"; "trailing punctuation", which drops "!?." at
            its end as hi-ml-multimodal does; "ftfy", which mends it as open_clip does; or "gloria", which keeps the
            ASCII words of sentences of two or more, as GLoRIA does (`runtime.text.cleaning`). Lower-casing is
            tokenizer.json's.
        prompts: name → what is put before a text of that kind.
        default_prompt: name of the one for texts of no named kind; None puts nothing before them.
    """

    tokenizer: str
    max_length: int
    too_long: str
    cleaning: str
    prompts: dict[str, str]
    default_prompt: str | None


@dataclass(frozen=True)
class TextPart:
    """The text tower.

    Attributes:
        architecture: "bert": learned positions, normalization after each residual sum; "clip": learned positions,
            normalization before each layer's halves and behind the last layer.
        attention: "bidirectional" or "causal".
        tokenization: of its texts.
        pooling: which states of the last layer become the embedding: "cls", the first token's; "eos", the last one's;
            "mean", of all tokens; "max", the largest value of all tokens in each dimension; "layers", those of all
            tokens in the last four layers added up, divided by the longest input's tokens.
        projection: what follows the pooled state: "none", "cxr-bert" (two linear maps around GELU and a normalization),
            "linear" or "mlp" (two linear maps around an activation).
        masked_words: whether there is a head that scores the vocabulary at masks.
        embedding_size: length of an embedding.
        artifacts: its graphs.
    """

    architecture: str
    attention: str
    tokenization: Tokenization
    pooling: str
    projection: str
    masked_words: bool
    embedding_size: int
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the uint8 pixels that the graph takes.

    Attributes:
        colours: "grey": one channel, values stretched from the least and largest to 0–255; "luminance": one channel,
            8-bit values as they are and deeper ones (radiographs of 16 bit) stretched; or "rgb": three channels, else
            as luminance. Pictures become RGB by Pillow's conversion, which drops transparency, before they are resized,
            as in transformers; "rgb after resizing" does that after, as open_clip does, which differs for palettes
            (resized without a filter) and transparency.
        resize: which side becomes `size` pixels: "shortest"; "longest", the rest padded with black; "longest by
            factor", where the other side is multiplied by a rounded factor, as GLoRIA does, which may be a pixel less;
            or "squash": both.
        size: see `resize`.
        interpolation: Pillow's "bilinear", "bicubic" or "lanczos", with antialiasing; or OpenCV's "area".
        crop: side of the centre crop in pixels.
        crop_rounding: which pixel a crop begins at where the rest is odd: "even" (halves to even, torchvision) or
            "down" (transformers).
        mean: of each channel's values in [0, 1], which the graph subtracts; std is what it divides by. One value stands
            for all channels.
    """

    colours: str
    resize: str
    size: int
    interpolation: str
    crop: int
    crop_rounding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image's pixels: (3, crop, crop) for RGB, else (crop, crop).

        Channels come first, as pixel_values do in the field: no graph transposes what the decoding threads can.
        """
        return (3, self.crop, self.crop) if self.colours in (RGB, RGB_AFTER) else (self.crop, self.crop)


@dataclass(frozen=True)
class ImagePart:
    """The image tower.

    Attributes:
        architecture: "resnet50": a bottleneck ResNet with a projector of 1×1 convolutions; "resnet50+transformer": the
            same with a transformer before the projector, which compares two images (BioViL-T); "vit": a vision
            transformer with a class token.
        preprocessing: of its pictures.
        images: pictures that an embedding may be made of: 1, or 2 (a current one, and a previous one where there is).
        grid: patches per side; None where it embeds no patches.
        embedding_size: length of an embedding.
        artifacts: its graphs.
    """

    architecture: str
    preprocessing: Preprocessing
    images: int
    grid: int | None
    embedding_size: int
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class WordAttention:
    """How words attend to regions of an image; see `runtime.tasks.word_regions`.

    Attributes:
        temperature: what a word's shares of regions are multiplied by.
        sharpness: what the cosine of a word with what it sees is multiplied by.
    """

    temperature: float
    sharpness: float


@dataclass(frozen=True)
class Joint:
    """What joins the towers.

    Attributes:
        embedding_size: of the space they share.
        logit_scale: what a cosine is multiplied by, the exponential of the checkpoint's parameter.
        logit_bias: what is added then.
        score: how labels get probabilities where nothing else is asked for: "pairs", a softmax of the prompts that
            affirm a label and those that deny it; "softmax" over labels; "sigmoid", each on its own.
        templates: what a label alone becomes prompts by, "{}" standing for it; empty where it is the prompt itself.
        attention: how words attend to regions; None where phrases and patches are compared by their cosine.
    """

    embedding_size: int
    logit_scale: float
    logit_bias: float
    score: str
    templates: tuple[str, ...]
    attention: WordAttention | None = None


# Of a text tower alone: the size is not asked for.
COSINES = Joint(0, logit_scale=1.0, logit_bias=0.0, score=PAIRS, templates=())
