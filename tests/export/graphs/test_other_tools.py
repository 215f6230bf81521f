"""What the text folder holds for other tools: the embedding where they look for it, and logits of every token."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer

import runtime
from export.graphs.other_tools import EVERY_TOKEN
from export.samples import SENTENCES
from runtime.bundle import open_bundle
from tests.conftest import System

MASKED = ["Moderate [MASK] pleural effusion", "[MASK] heart size", "There is no pneumothorax and no [MASK]"]


def tokens(tiny: System, texts: list[str]) -> dict[str, np.ndarray]:
    """As other tools tokenize: padded, the mask 1 where there are tokens."""
    tokenizer = Tokenizer.from_file(str(tiny.bundle / "text/tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in encoded]),
        "attention_mask": np.array([each.attention_mask for each in encoded]),
    }


def test_the_plain_graph_gives_the_embedding_as_its_only_token(tiny: System) -> None:
    texts = [text.rstrip("!?.") for text in SENTENCES]
    session = onnxruntime.InferenceSession(str(tiny.bundle / "text/onnx/model.onnx"))
    (states,) = session.run(["last_hidden_state"], tokens(tiny, texts))
    expected = runtime.load(tiny.bundle, provider="cpu", precision="fp32").text.encode(texts)
    assert states.shape == (len(texts), 1, expected.shape[1])
    assert np.abs(states[:, 0] - expected).max() <= 1e-5


def test_every_token_has_the_logits_of_the_reference(tiny: System) -> None:
    from tests.oracle import reference_text_model

    file = tiny.bundle / "text/onnx" / EVERY_TOKEN
    given = tokens(tiny, MASKED)
    (logits,) = onnxruntime.InferenceSession(str(file)).run(["logits"], given)
    with torch.no_grad():
        expected = reference_text_model(tiny.checkpoint)(
            **{name: torch.from_numpy(values) for name, values in given.items()}
        ).logits.numpy()
    real = given["attention_mask"] == 1
    assert not real.all(), "there is padding"
    assert logits.shape == expected.shape
    assert np.abs(logits - expected)[real].max() <= 1e-4 * np.abs(expected).max()
    # Negative control: the neighbour's logits are others.
    assert np.abs(logits[:, 1:] - expected[:, :-1])[real[:, 1:]].max() > 1e-2


def test_it_reads_the_weights_that_are_there(tiny: System) -> None:
    bundle = open_bundle(tiny.bundle)
    bundle.verify(name for name in bundle.manifest.files if name.startswith("text/"))
    graph = onnx.load(str(tiny.bundle / "text/onnx" / EVERY_TOKEN), load_external_data=False).graph
    inline = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    assert max(tensor.ByteSize() for tensor in inline) < 2048
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


def test_sentence_transformers_is_told_the_size_and_the_length(tiny: System) -> None:
    folder = tiny.bundle / "text"
    part = open_bundle(tiny.bundle).text_part()
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    assert pooling["word_embedding_dimension"] == part.embedding_size
    assert (
        json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == part.tokenization.max_length
    )
    listed = ["1_Pooling/config.json", "modules.json", "sentence_bert_config.json"]
    assert {f"text/{name}" for name in listed} <= open_bundle(tiny.bundle).manifest.files.keys()
