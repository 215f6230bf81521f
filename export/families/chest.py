"""Systems for chest X-rays: BioViL, CXR-BERT and BioViL-T, GLoRIA, and the shape of ConVIRT."""

from __future__ import annotations

from dataclasses import replace

from export.families.rows import Family, HubRepository, ImageModel, JointModel, TextModel
from runtime.bundle.parts import Preprocessing, WordAttention
from runtime.tasks.templates import TEMPLATE_SETS

__all__ = ["CHEST"]


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
# Of the pictures that torchvision's ResNets are trained on first, as ConVIRT's was.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CHEST = (
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
        # Its training multiplies cosines by 10. Of a label of one word its cleaning leaves nothing: hi-ml's templates.
        JointModel(
            logit_scale=10.0,
            score="softmax",
            templates=TEMPLATE_SETS["hi-ml"].templates.positive,
            attention=WordAttention(4.0, 5.0),
        ),
        "gloria",
        "GLoRIA's file (chexpert_resnet50.ckpt) or the folder that it is in",
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
        "a folder with model.safetensors, config.json and vocab.txt",
    ),
)
