"""CLIP-likes: BiomedCLIP, OpenAI's, Fashion-CLIP, and any other."""

from __future__ import annotations

from export.families.rows import Family, HubRepository, ImageModel, JointModel, TextModel
from runtime.bundle.parts import SOFTMAX, Preprocessing
from runtime.tasks.templates import TEMPLATE_SETS

__all__ = ["CLIPS"]

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


CLIPS = (
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
)
