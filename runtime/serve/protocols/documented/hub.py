"""Paths of Hugging Face's clients: its tasks, and text-embeddings-inference."""

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
    object_of,
    ref,
    text,
    whole,
)

__all__ = ["HUB"]

_TASKS, _TEI = "Hugging Face tasks", "Text Embeddings Inference"
_IDS = list_of(whole(), 1)
_OPTIONS = {
    "normalize": nullable(flag("Divide by the L2 norm.", True)),
    "truncate": nullable(flag("Cut texts that are too long, or refuse them; what the bundle does where left out.")),
    "truncation_direction": nullable(text("Which end is cut.", enum=["right", "left", "Right", "Left"])),
    "prompt_name": nullable(text("Of what the model puts before texts of a kind.")),
    "dimensions": nullable(whole("The model's own; no other can be had.")),
    "model": MODEL,
}
_EFFUSION = "There is a moderate [MASK] effusion."
_FILLED = [
    {"score": 0.93, "token": 9432, "token_str": "pleural", "sequence": "there is a moderate pleural effusion."},
    {
        "score": 0.02,
        "token": 25731,
        "token_str": "pericardial",
        "sequence": "there is a moderate pericardial effusion.",
    },
]
_FILL_MASK = object_of(
    {
        "inputs": TEXTS,
        "parameters": nullable(
            object_of(
                {
                    "top_k": nullable(whole("Words for each mask.", 1, default=5)),
                    "targets": nullable({**TEXTS, "description": "The words that alone are asked about."}),
                }
            )
        ),
        "model": MODEL,
    },
    ("inputs",),
)
_FILLED_MASKS = list_of(
    either(ref("FilledMask"), list_of(either(ref("FilledMask"), list_of(ref("FilledMask"))))),
    description="Words, best first; of several masks a list of those, and of several texts a list of what each gives.",
)
_SENTENCES = object_of({"source_sentence": text(), "sentences": TEXTS}, ("source_sentence", "sentences"))
_SIMILAR_EXAMPLE = {
    "inputs": {"source_sentence": "Left pleural effusion.", "sentences": ["Fluid in the left pleura.", "Clear lungs."]}
}

HUB = (
    Operation(
        "post",
        "/fill-mask",
        _TASKS,
        "The likeliest words at each [MASK] of a text.",
        _FILLED_MASKS,
        _FILL_MASK,
        {"inputs": _EFFUSION, "parameters": {"top_k": 2}},
        _FILLED,
        "What InferenceClient.fill_mask sends. Scores are probabilities among all words, also for `targets`.",
    ),
    Operation(
        "post",
        "/feature-extraction",
        _TASKS,
        "Embeddings of texts.",
        VECTORS,
        object_of({"inputs": TEXTS, **_OPTIONS}, ("inputs",)),
        {"inputs": ["No pleural effusion."]},
        [[0.12, -0.05]],
        "What InferenceClient.feature_extraction sends: one row for each text, also for one alone.",
    ),
    Operation(
        "post",
        "/sentence-similarity",
        _TASKS,
        "Cosines of a text with others.",
        list_of({"type": "number"}),
        object_of(
            {"inputs": _SENTENCES, "parameters": nullable(object_of({"prompt_name": _OPTIONS["prompt_name"]}))},
            ("inputs",),
        ),
        _SIMILAR_EXAMPLE,
        [0.84, 0.11],
        "What InferenceClient.sentence_similarity sends.",
    ),
    Operation(
        "post",
        "/zero-shot-image-classification",
        _TASKS,
        "How well labels describe an image, compared with each other.",
        list_of(either(ref("Label"), list_of(ref("Label")))),
        object_of(
            {
                "inputs": either(IMAGE, list_of(IMAGE, 1)),
                "parameters": object_of(
                    {
                        "candidate_labels": either(
                            list_of({"type": "string"}, 2), text(), description="At least two, each different."
                        ),
                        "hypothesis_template": nullable(text("What a label becomes a prompt by; {} stands for it.")),
                    },
                    ("candidate_labels",),
                ),
                "model": MODEL,
            },
            ("inputs", "parameters"),
        ),
        {"inputs": "iVBORw0KGgo…", "parameters": {"candidate_labels": ["Pleural effusion", "Clear lungs"]}},
        [{"score": 0.71, "label": "Pleural effusion"}, {"score": 0.29, "label": "Clear lungs"}],
        "What InferenceClient.zero_shot_image_classification sends. Softmax over the labels, times the model's scale; "
        "sigmoid of models that were trained so. For BioViL's pairs of prompts see /classify.",
    ),
    Operation(
        "post",
        "/",
        _TASKS,
        "The task that the server was started for; fill-mask unless told otherwise.",
        list_of({}),
        object_of({"inputs": {}, "parameters": nullable(object_of({}))}, ("inputs",)),
        {"inputs": _EFFUSION},
        _FILLED,
        "Clients that are given a URL post to it as it is. Each task has a path of its own beside it.",
    ),
    Operation(
        "post",
        "/pipeline/{task}",
        _TASKS,
        "A task by its name.",
        list_of({}),
        object_of({"inputs": {}, "parameters": nullable(object_of({}))}, ("inputs",)),
        {"inputs": _EFFUSION},
        _FILLED,
        parameters={"task": ref("Task")},
    ),
    Operation(
        "post",
        "/models/{model}/pipeline/{task}",
        _TASKS,
        "A task of a bundle, both by their names, as the hub has it.",
        list_of({}),
        object_of({"inputs": {}, "parameters": nullable(object_of({}))}, ("inputs",)),
        {"inputs": _EFFUSION},
        _FILLED,
        parameters={"model": ref("Bundle"), "task": ref("Task")},
    ),
    Operation(
        "post",
        "/embed",
        _TEI,
        "Embeddings of texts or token ids.",
        VECTORS,
        object_of(
            {"inputs": either(text(), _IDS, list_of(either(text(), _IDS), 1)), **_OPTIONS},
            ("inputs",),
        ),
        {"inputs": ["No pleural effusion.", "Clear lungs."]},
        [[0.12, -0.05], [0.02, 0.31]],
        "A flat list of ids is one text. Headers say what it cost: x-compute-time, x-queue-time, …, in ms.",
    ),
    Operation(
        "post",
        "/tokenize",
        _TEI,
        "The tokens that texts become.",
        list_of(
            list_of(
                object_of(
                    {
                        "id": whole(),
                        "text": text(),
                        "special": flag("Whether it was put there, such as [CLS]."),
                        "start": nullable(whole("First character in the text, after the system's cleaning.")),
                        "stop": nullable(whole()),
                    },
                    ("id", "text", "special"),
                )
            )
        ),
        object_of(
            {
                "inputs": TEXTS,
                "add_special_tokens": nullable(flag("List those at the ends as well.", True)),
                "prompt_name": _OPTIONS["prompt_name"],
                "model": MODEL,
            },
            ("inputs",),
        ),
        {"inputs": "Effusion"},
        [[{"id": 4312, "text": "Effusion", "special": False, "start": 0, "stop": 8}]],
    ),
    Operation(
        "post",
        "/decode",
        _TEI,
        "Texts of token ids.",
        list_of(text()),
        object_of(
            {"ids": either(_IDS, list_of(_IDS, 1)), "skip_special_tokens": nullable(flag("", True)), "model": MODEL},
            ("ids",),
        ),
        {"ids": [[2, 4312, 3]]},
        ["effusion"],
    ),
    Operation(
        "post",
        "/embed_all",
        _TEI,
        "Refused (422): the graphs compute embeddings of whole texts alone.",
        {},
        object_of({"inputs": {}}),
        {"inputs": "x"},
    ),
    Operation(
        "get",
        "/info",
        _TEI,
        "The server, its bundles and what they can do, its indexes and limits.",
        object_of(
            {
                "model_id": text(),
                "model_dtype": text(),
                "served_model_name": text(),
                "model_type": object_of({"embedding": object_of({"pooling": text()})}),
                "max_concurrent_requests": whole(),
                "max_input_length": whole(),
                "max_batch_tokens": whole(),
                "max_client_batch_size": whole(),
                "auto_truncate": flag(""),
                "tokenization_workers": whole(),
                "version": text(),
                "models": list_of(object_of({"name": text(), "capabilities": object_of({})}, ("name", "capabilities"))),
                "indexes": list_of(object_of({"name": text()}, ("name",))),
                "task": text(),
                "limits": object_of({}),
            },
            ("model_id", "model_dtype", "model_type", "version", "models", "indexes", "task", "limits"),
        ),
        errors=(503,),
    ),
)
