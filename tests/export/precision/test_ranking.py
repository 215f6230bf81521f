"""Which products int8 damages most: the error of each is the written graph's, and the damage is that of the error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from rich.console import Console

from export.graphs.packing import plain_spec
from export.precision.int8 import Group, GroupPlan, TextQuantizer, find_groups
from export.precision.recipes.ranking import ProductRanking, operations
from export.precision.recipes.text import ranking_feed, token_feeds
from export.precision.statistics import TensorStatistics, collect_statistics
from export.progress import Steps
from runtime.bundle import Manifest
from runtime.engines import PROVIDERS, Provider, SessionOptions
from runtime.text import Tokenizer

pytestmark = pytest.mark.slow

CPU = PROVIDERS["cpu"]
TEXTS = ["Small left pleural effusion.", "No pneumothorax", "The heart is enlarged, unchanged from the prior study."]


class Encoder:
    """The fp32 graph of the tiny text model, and what it takes to quantize it."""

    def __init__(self, bundle: tuple[Path, Manifest], folder: Path) -> None:
        part = bundle[1].text
        for name in ("model.onnx", "model.onnx_data"):
            shutil.copyfile(bundle[0] / "text/onnx" / name, folder / name)
        self.source = folder / "model.onnx"
        self.spec = plain_spec(part.embedding_size, part.tokenization.max_length)
        self.groups = find_groups(onnx.load(self.source, load_external_data=False))
        tokenizer = Tokenizer(bundle[0] / "text", part.tokenization)
        self.rows, self.pad_token_id = tokenizer.encode(TEXTS), tokenizer.pad_token_id
        (self.feed,) = token_feeds(self.rows, tokenizer)
        tensors = [group.tensor for group in self.groups]
        self.statistics = collect_statistics(self.source, tensors, [self.feed], CPU)

    def order(
        self, statistics: dict[str, TensorStatistics], plans: dict[str, GroupPlan], engine: Provider = CPU
    ) -> list[Group]:
        quantizer = TextQuantizer(self.source, self.spec, statistics)
        steps = Steps(Console(quiet=True))
        feed = ranking_feed(self.rows, self.pad_token_id)
        return ProductRanking(quantizer, self.source, feed, "text_embeds", engine, steps).order(plans)


@pytest.fixture(scope="module")
def encoder(exported: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(exported, tmp_path_factory.mktemp("ranking"))


def _products(model: onnx.ModelProto) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Weight → where its product is whole, bias included, and the bias."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:
            (reader, *others) = (reader for reader in model.graph.node if node.output[0] in reader.input)
            biases = [values[name] for name in reader.input if name in values]
            biased = reader.op_type == "Add" and not others and biases
            found[node.input[1]] = (reader.output[0], biases[0]) if biased else (node.output[0], np.float32(0))
    return found


def test_the_error_of_each_product_is_that_of_the_written_graph(encoder: Encoder, tmp_path: Path) -> None:
    quantizer = TextQuantizer(encoder.source, encoder.spec, encoder.statistics)
    model = onnx.load(encoder.source)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    products = _products(model)
    for group in encoder.groups:
        plan = GroupPlan()
        quantizer.write(tmp_path / "int8.onnx", {each.tensor: plan for each in encoder.groups})
        graph = onnx.load(tmp_path / "int8.onnx", load_external_data=False)
        names = [group.tensor, *(products[weight][0] for weight in group.weights)]
        graph.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
        onnx.save(graph, tmp_path / "watched.onnx")
        shutil.copyfile(tmp_path / "int8.onnx_data", tmp_path / "watched.onnx_data")
        session = CPU.open(tmp_path / "watched.onnx", SessionOptions(2, "int8"))
        inputs, *found = session.run(names, encoder.feed)
        errors = quantizer.product_errors(group, plan, inputs)
        assert set(errors) == set(group.weights)
        for weight, value in zip(group.weights, found, strict=True):
            exact = inputs @ values[weight] + products[weight][1]
            error = np.abs(errors[weight]).mean()
            assert error > 1e-5
            assert np.abs(exact + errors[weight] - value).mean() < 0.02 * error, weight


def test_products_in_floating_point_do_no_damage(encoder: Encoder) -> None:
    plans = {group.tensor: GroupPlan(quantized=index % 2 == 0) for index, group in enumerate(encoder.groups)}
    ordered = encoder.order(encoder.statistics, plans)
    assert {group.tensor for group in ordered} == set(plans)
    damaged = (len(plans) + 1) // 2
    assert [plans[group.tensor].quantized for group in ordered] == [True] * damaged + [False] * (len(plans) - damaged)


@pytest.mark.parametrize("provider", [name for name in ("cpu", "openvino") if PROVIDERS[name].missing() is None])
def test_a_product_that_is_clipped_comes_first(encoder: Encoder, provider: str) -> None:
    plans = {group.tensor: GroupPlan() for group in encoder.groups}
    for group in encoder.groups:
        known = encoder.statistics[group.tensor]
        clipped = replace(
            known,
            lowest=known.lowest / 50,
            highest=known.highest / 50,
            sums=known.sums / 50,
            moments=known.moments / 2500,
        )
        ordered = encoder.order({**encoder.statistics, group.tensor: clipped}, plans, PROVIDERS[provider])
        assert ordered[0] == group


def test_the_order_is_that_of_leaving_one_product_after_the_other_in_floating_point(
    encoder: Encoder, tmp_path: Path
) -> None:
    """Independently: graphs in which one product alone is int8, written and run."""
    quantizer = TextQuantizer(encoder.source, encoder.spec, encoder.statistics)
    none = {group.tensor: GroupPlan(quantized=False) for group in encoder.groups}

    def embed(plans: dict[str, GroupPlan]) -> NDArray[np.float32]:
        quantizer.write(tmp_path / "alone.onnx", plans)
        return CPU.open(tmp_path / "alone.onnx", SessionOptions(2, "int8")).run(["text_embeds"], encoder.feed)[0]

    expected = embed(none)
    damage = {
        group.tensor: np.square(embed({**none, group.tensor: GroupPlan()}) - expected).sum() / operations(group)
        for group in encoder.groups
    }
    ordered = encoder.order(encoder.statistics, dict.fromkeys(none, GroupPlan()))
    found = [damage[group.tensor] for group in ordered]
    # Those that do about the same damage may change places.
    assert all(value >= 0.5 * max(found[index:]) for index, value in enumerate(found)), found
    assert max(found) > 3 * found[-1], found
