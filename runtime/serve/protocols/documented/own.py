"""The server's own paths: texts and images, their similarity, labels, phrases located, search."""

from __future__ import annotations

from runtime.serve.protocols.documented.operation import (
    IMAGE,
    MODEL,
    TEXTS,
    VECTORS,
    Operation,
    either,
    flag,
    list_of,
    nullable,
    number,
    object_of,
    text,
    whole,
)

__all__ = ["OWN"]

_OWN, _STATE = "This server", "State"
_PNG = "image/png"
_FILM = "iVBORw0KGgo…"
_FORMS = (
    "The picture comes as base64 in JSON, as a file `image` of a multipart form, or as the body itself with its "
    "Content-Type (image/png, image/jpeg, application/dicom)."
)
_IMAGES = nullable(either(IMAGE, list_of(IMAGE, 1), description="One or several of them, which count as a list."))
_BOX = object_of({name: number() for name in ("x", "y", "width", "height")}, ("x", "y", "width", "height"))
_PROBABILITIES = {"type": "object", "additionalProperties": number()}
_PROMPTS = either(
    text("Name of a published set, such as chexpert."),
    {
        "type": "object",
        "additionalProperties": {},
        "description": "{label: [[prompts that affirm], [prompts that deny]]}, or {label: [prompts]} for other scores.",
    },
    list_of({"type": "string"}, 1),
)
_CLASSIFY = {
    "labels": nullable({**TEXTS, "description": "Labels alone, which templates make prompts of."}),
    "prompts": nullable(_PROMPTS),
    "templates": nullable(either(text(), list_of({"type": "string"}, 1), object_of({}))),
    "score": nullable(text("How cosines become probabilities; the model's own where it is left out.")),
    "rule": nullable(text("How several prompts become one embedding.")),
    "model": MODEL,
}
_TOP_K = whole("Items to find.", 1, 1000, 10)
_INDEX = nullable(text("Name of an index; the first where it is left out."))

OWN = (
    Operation(
        "post",
        "/embed/text",
        _OWN,
        "Embeddings of texts.",
        object_of({"embeddings": VECTORS, "tokens": whole(), "model": text()}, ("embeddings", "tokens", "model")),
        object_of(
            {
                "texts": TEXTS,
                "normalize": nullable(flag("Divide by the L2 norm.", True)),
                "prompt_name": nullable(text("Of what the model puts before texts of a kind.")),
                "truncate": nullable(flag("Cut texts that are too long, or refuse them.")),
                "model": MODEL,
            },
            ("texts",),
        ),
        {"texts": ["No pleural effusion.", "Clear lungs."]},
        {"embeddings": [[0.12, -0.05], [0.02, 0.31]], "tokens": 13, "model": "biovil"},
    ),
    Operation(
        "post",
        "/embed/image",
        _OWN,
        "Embeddings of images, in the space that texts are in.",
        object_of({"embeddings": VECTORS, "model": text()}, ("embeddings", "model")),
        object_of({"image": nullable(IMAGE), "images": _IMAGES, "model": MODEL}),
        {"images": [_FILM]},
        {"embeddings": [[0.08, 0.21]], "model": "biovil"},
        _FORMS,
        pictures=True,
    ),
    Operation(
        "post",
        "/similarity",
        _OWN,
        "Cosine of an image with a text, or with several that mean the same; of texts with a text.",
        either(
            object_of({"similarity": number(), "model": text()}, ("similarity", "model")), list_of({"type": "number"})
        ),
        either(
            object_of({"image": IMAGE, "texts": TEXTS, "model": MODEL}, ("image", "texts")),
            object_of(
                {
                    "inputs": object_of(
                        {"source_sentence": text(), "sentences": TEXTS},
                        ("source_sentence", "sentences"),
                    ),
                    "parameters": nullable(object_of({})),
                },
                ("inputs",),
            ),
        ),
        {"image": _FILM, "texts": "left pleural effusion"},
        {"similarity": 0.41, "model": "biovil"},
        f"{_FORMS} With `inputs` it is text-embeddings-inference's endpoint, which compares texts.",
        pictures=True,
        form={"texts": list_of({"type": "string"}, 1)},
    ),
    Operation(
        "post",
        "/classify",
        _OWN,
        "Zero-shot classification: how probable each label is for an image, by prompts.",
        either(
            object_of({"labels": _PROBABILITIES, "score": text(), "model": text()}, ("labels", "score", "model")),
            object_of(
                {"results": list_of(_PROBABILITIES), "score": text(), "model": text()}, ("results", "score", "model")
            ),
        ),
        object_of({"image": nullable(IMAGE), "images": _IMAGES, **_CLASSIFY}),
        {"image": _FILM, "prompts": "chexpert"},
        {"labels": {"Edema": 0.52, "Pneumonia": 0.47}, "score": "pairs", "model": "biovil"},
        f"{_FORMS} Of several images `results` has one object each. Give `labels` or `prompts`, not both.",
        pictures=True,
        form={"labels": list_of({"type": "string"}), "prompts": text(), "score": text(), "rule": text()},
    ),
    Operation(
        "post",
        "/ground",
        _OWN,
        "Where phrases are found in an image.",
        object_of(
            {
                "width": whole("Of the image, in pixels."),
                "height": whole(),
                "box": {**_BOX, "description": "What the model sees of it."},
                "grid": list_of(whole(), description="Rows and columns of patches."),
                "phrases": list_of(
                    object_of(
                        {
                            "phrase": text(),
                            "score": number("Cosine of the whole image."),
                            "map": {**VECTORS, "description": "Of each patch; enlarged to `box` by nearest neighbour."},
                        },
                        ("phrase", "score", "map"),
                    )
                ),
                "model": text(),
            },
            ("width", "height", "box", "grid", "phrases", "model"),
        ),
        object_of(
            {
                "image": IMAGE,
                "phrases": TEXTS,
                "format": nullable(text("`png` draws the first phrase, as `Accept: image/png` does.")),
                "model": MODEL,
            },
            ("image", "phrases"),
        ),
        {"image": _FILM, "phrases": ["left basal opacity"]},
        {
            **{"width": 640, "height": 512, "box": {"x": 80, "y": 16, "width": 480, "height": 480}, "grid": [2, 2]},
            "phrases": [{"phrase": "left basal opacity", "score": 0.4, "map": [[0.1, 0.2], [0.3, 0.6]]}],
            "model": "biovil",
        },
        _FORMS,
        pictures=True,
        form={"phrases": list_of({"type": "string"}, 1), "format": text()},
        answer_types=(_PNG,),
    ),
    Operation(
        "post",
        "/picture",
        _OWN,
        "An image at its full size as the model sees it: grey values of a DICOM file, say.",
        None,
        object_of({"image": IMAGE, "model": MODEL}, ("image",)),
        {"image": _FILM},
        details=_FORMS,
        pictures=True,
        answer_types=(_PNG,),
    ),
    Operation(
        "post",
        "/search",
        _OWN,
        "The items of an index that a text or an image resembles most.",
        object_of(
            {
                "index": text(),
                "kind": text("text or image: what its items are."),
                "hits": list_of(
                    object_of(
                        {
                            "rank": whole("", 1),
                            "score": number("Cosine."),
                            "id": text(),
                            "text": text(),
                            "picture": text("Path of a small picture."),
                        },
                        ("rank", "score", "id"),
                    )
                ),
                "model": text(),
            },
            ("index", "kind", "hits", "model"),
        ),
        object_of(
            {
                "text": nullable(text()),
                "image": nullable(IMAGE),
                "index": _INDEX,
                "top_k": nullable(_TOP_K),
                "model": MODEL,
            }
        ),
        {"text": "left pleural effusion", "top_k": 3},
        {"index": "films", "kind": "image", "hits": [{"rank": 1, "score": 0.41, "id": "film-7"}], "model": "biovil"},
        f"{_FORMS} Give `text` or an image, not both.",
        pictures=True,
        form={"text": text(), "index": text(), "top_k": whole("", 1, 1000)},
    ),
    Operation(
        "get",
        "/indexes/{name}/pictures/{row}",
        _OWN,
        "A small picture of an item of an index.",
        answer_types=(_PNG,),
        parameters={"name": text("Of the index."), "row": whole("Of the item, from 0.")},
        errors=(422, 503),
    ),
)
