"""CLIP's text graph against upstream's own untouched classes, in PyTorch and as ONNX on each engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export.errors import GraphError
from export.graphs import export_graph
from export.graphs.causal_text import CausalTextGraph
from export.graphs.packing import exported_spec, pack_graph, packed_spec, plain_graph, plain_spec
from export.graphs.text_rewrites import PackedTextGraph
from export.graphs.towers import text_tower
from runtime.engines import PROVIDERS, Session, SessionOptions
from runtime.text.packing import pack_batch, plan_packed, widest_row
from tests.export.graphs import clips

ENGINES = ("cpu", "openvino")
SHAPES = [(1, 3), (2, 17), (7, 33), (2, 77)]


@pytest.mark.parametrize("name", clips.TEXTS)
def test_the_graph_is_upstreams_function(name: str) -> None:
    model = clips.TEXTS[name]()
    graph = CausalTextGraph(clips.Reference(model))
    for rows, longest in SHAPES:
        given = clips.texts(rows, longest)
        expected = clips.embed_texts(model, *given)
        with torch.no_grad():
            text_embeds, projected = graph(*given)
        assert (projected - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert (text_embeds - F.normalize(expected, dim=-1)).abs().max() <= 1e-6
    assert (text_embeds[0] @ text_embeds[1]) < 0.95, "texts that embed alike would hide faults"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return clips.transformers_clip()


def export(model: nn.Module, folder: Path) -> Path:
    """The plain graph and its packed twin."""
    graph = PackedTextGraph(CausalTextGraph(clips.Reference(model))).eval().requires_grad_(False)
    shape = (2, 16)
    example = [torch.ones(shape, dtype=torch.int64) for _ in range(3)] + [torch.zeros(2, 3, dtype=torch.int64)]
    spec = exported_spec(clips.SIZE, clips.LONGEST, "model.onnx_data", 32, "eos")
    export_graph(graph, tuple(example), spec, folder / "exported.onnx")
    plain_graph(folder / "exported.onnx", folder / "model.onnx", plain_spec(clips.SIZE, clips.LONGEST), "eos")
    pack_graph(
        folder / "model.onnx",
        folder / "model_packed.onnx",
        packed_spec(clips.SIZE, clips.LONGEST, "model.onnx_data"),
    )
    return folder


@pytest.fixture(scope="module")
def exported(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(model, tmp_path_factory.mktemp("text"))


def session(path: Path, engine: str) -> Session:
    return PROVIDERS[engine].open(path, SessionOptions(threads=1, precision="fp32"))


def run(session: Session, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> np.ndarray:
    return session.run(["text_embeds"], {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_compute_upstreams_function(exported: Path, model: nn.Module, engine: str) -> None:
    plain = session(exported / "model.onnx", engine)
    for rows, longest in [(1, 3), (1, 77), (2, 4), (2, 77), (7, 5), (7, 40), (7, 77)]:
        given = clips.texts(rows, longest)
        expected = F.normalize(clips.embed_texts(model, *given), dim=-1).numpy()
        assert np.abs(run(plain, *given) - expected).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_packed_is_plain_and_padding_does_not_matter(exported: Path, model: nn.Module, engine: str) -> None:
    plain, packed = (session(exported / f"{name}.onnx", engine) for name in ("model", "model_packed"))
    input_ids, attention_mask = clips.texts(23, 77)
    alone = np.concatenate(
        [
            run(plain, ids[None, :length], mask[None, :length])
            for ids, mask in zip(input_ids, attention_mask, strict=True)
            for length in [int(mask.sum())]
        ]
    )
    assert np.abs(run(plain, input_ids, attention_mask) - alone).max() <= 1e-5
    # What stands behind the end is not looked at, whatever it is.
    filled = torch.where(attention_mask.bool(), input_ids, 7)
    assert np.abs(run(plain, filled, attention_mask) - alone).max() <= 1e-5
    tokens = [ids[: int(mask.sum())].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
    found, widths = np.empty_like(alone), []
    for batch in plan_packed([len(each) for each in tokens], 256, widest_row(clips.LONGEST)):
        laid_out = pack_batch(batch, tokens, 0, "eos")
        widths.append(laid_out.inputs["input_ids"].shape[1])
        found[laid_out.texts] = packed.run(["text_embeds"], laid_out.inputs)[0][laid_out.row, laid_out.place]
    assert max(widths) > clips.LONGEST, "rows may be wider than the longest text"
    assert np.abs(found - alone).max() <= 1e-5
    expected = F.normalize(clips.embed_texts(model, input_ids, attention_mask), dim=-1).numpy()
    assert np.abs(found - expected).max() <= 1e-5
    # Negative control: pointed at the beginnings, as for [CLS], the packed graph gives something else.
    wrong = pack_batch(batch, tokens, 0)
    assert np.abs(packed.run(["text_embeds"], wrong.inputs)[0][wrong.row, wrong.place] - alone[wrong.texts]).max() > 0.1


@torch.no_grad()
def test_what_stands_later_does_not_change_an_earlier_token(model: nn.Module) -> None:
    graph = CausalTextGraph(clips.Reference(model))
    input_ids, attention_mask = clips.texts(1, 20)
    positions = torch.arange(20)[None]
    before, seen = graph.states(input_ids, positions, attention_mask, positions)
    assert torch.equal(seen[0], torch.ones(20, 20).tril().bool())
    changed = input_ids.clone()
    changed[0, 12] = changed[0, 12] % 200 + 1
    after, _ = graph.states(changed, positions, attention_mask, positions)
    difference = (after - before).abs().amax(dim=(0, 2))
    assert difference[:12].max() == 0
    assert difference[12:].min() > 1e-4
    hidden = model.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    assert (before - hidden).abs().max() <= 1e-5 * hidden.abs().max()


@torch.no_grad()
def test_negative_control_without_the_causal_mask(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    given = clips.texts(2, 17)
    expected = F.normalize(clips.embed_texts(model, *given), dim=-1)
    graph = CausalTextGraph(clips.Reference(model))
    assert (graph(*given)[0] - expected).abs().max() <= 1e-6
    monkeypatch.setattr("export.graphs.causal_text.additive_mask", lambda visible, hidden: torch.zeros(1))
    assert (graph(*given)[0] - expected).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("name", ["transformers, quick_gelu", "open_clip"])
def test_negative_control_a_perturbed_weight(name: str) -> None:
    model = clips.TEXTS[name]()
    given = clips.texts(2, 17)
    expected = F.normalize(clips.embed_texts(model, *given), dim=-1)
    graph = CausalTextGraph(clips.Reference(model))
    graph.blocks[1].attention.value.weight[[3, 4]] = graph.blocks[1].attention.value.weight[[4, 3]]
    assert (graph(*given)[0] - expected).abs().max() > 1e-3


def test_the_last_layer_is_computed_for_the_last_tokens_alone(model: nn.Module) -> None:
    graph, seen = CausalTextGraph(clips.Reference(model)), []
    hooks = [
        block.fc1.register_forward_hook(lambda module, given, result: seen.append(result.shape[1]))
        for block in graph.blocks
    ]
    with torch.no_grad():
        graph(*clips.texts(2, 20))
    for hook in hooks:
        hook.remove()
    assert seen == [20, 20, 1]


def test_the_model_stays_as_it_is() -> None:
    for make in clips.TEXTS.values():
        model = make()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        CausalTextGraph(clips.Reference(model))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_towers_are_refused() -> None:
    with pytest.raises(GraphError, match="the text tower of a Linear; there are for CLIPModel, CLIP, CustomTextCLIP"):
        text_tower(nn.Linear(2, 2))
    model = clips.open_clip_clip()
    model.attn_mask = None
    with pytest.raises(GraphError, match="The text tower has no causal mask"):
        text_tower(model)
    model.text_pool_type = "last"
    with pytest.raises(GraphError, match="pools 'last' and has no causal mask"):
        text_tower(model)
