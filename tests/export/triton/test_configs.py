"""Each config.pbtxt as Triton's protobuf reads it, beside what ONNX itself says of the graphs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import np_to_triton_dtype

from export.triton.options import Asked
from export.triton.repository import write_repository
from runtime.bundle import FILL_MASK, open_bundle
from runtime.engines import PROVIDERS
from runtime.triton.tasks import TASKS
from tests.runtime.handmade import artifact, fp32, record, write_bundle

_SIZES = {"TYPE_INT64": 8, "TYPE_UINT8": 1}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(
        tmp_path_factory.mktemp("handmade") / "bundle",
        [fp32(), artifact("fp32", name="fill_mask", role=FILL_MASK)],
        [fp32()],
    )


def configs(folder: Path) -> dict[str, model_config_pb2.ModelConfig]:
    """The repository's models; raises where a field is none of Triton's."""
    return {
        each.name: text_format.Parse(
            (each / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig()
        )
        for each in sorted((folder / "models").iterdir())
    }


def written(bundle: Path, out: Path, **asked: object) -> dict[str, model_config_pb2.ModelConfig]:
    write_repository(bundle, out, Asked(**asked), force=False, note=print)
    return configs(out)


def type_name(tensor: model_config_pb2.ModelInput | model_config_pb2.ModelOutput) -> str:
    return model_config_pb2.DataType.Name(tensor.data_type)


def face(values: object) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Of ONNX's own inputs or outputs: name → Triton's type, and dims without the batch's axis, which must be free."""
    found = {}
    for value in values:
        kind = value.type.tensor_type
        batch, *axes = kind.shape.dim
        assert batch.dim_param
        dtype = np_to_triton_dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        found[value.name] = f"TYPE_{dtype}", tuple(-1 if axis.dim_param else axis.dim_value for axis in axes)
    return found


def stated(tensors: object) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each.name: (type_name(each), tuple(each.dims)) for each in tensors}


def graph_faults(folder: Path, config: model_config_pb2.ModelConfig) -> list[str]:
    """What of a graph model's config is not what its graph says."""
    graph = onnx.load(folder / "models" / config.name / "1" / "model.onnx", load_external_data=False).graph
    given = {each.name for each in graph.initializer}
    faults = []
    for name, said, is_so in (
        ("inputs", stated(config.input), face(each for each in graph.input if each.name not in given)),
        ("outputs", stated(config.output), face(graph.output)),
    ):
        if said != is_so:
            faults.append(f"{name}: {said} and {is_so}")
    return faults


def ensemble_faults(found: dict[str, model_config_pb2.ModelConfig], config: model_config_pb2.ModelConfig) -> list[str]:
    """What of an ensemble's steps does not fit together: tensors unmapped, from nowhere, or of another face."""
    faults = []
    there = stated(config.input)
    for step in config.ensemble_scheduling.step:
        model = found[step.model_name]
        if set(step.input_map) != {each.name for each in model.input}:
            faults.append(f"{step.model_name}: inputs {sorted(step.input_map)}")
        for each in model.input:
            if there.get(step.input_map[each.name]) != stated([each])[each.name]:
                faults.append(f"{step.model_name}.{each.name} from {step.input_map[each.name]}")
        outputs = stated(model.output)
        faults += [f"{step.model_name} has no {key}" for key in step.output_map if key not in outputs]
        there |= {step.output_map[key]: outputs[key] for key in step.output_map if key in outputs}
    faults += [f"{name} comes from nowhere" for name, each in stated(config.output).items() if there.get(name) != each]
    return faults


def warm_up_faults(folder: Path, config: model_config_pb2.ModelConfig) -> list[str]:
    """What of a model's warm-ups is not a request that it takes."""
    required = {each.name for each in config.input if not each.optional}
    faults = [] if config.model_warmup or config.platform == "ensemble" else ["none"]
    for each in config.model_warmup:
        if set(each.inputs) != required or not 1 <= each.batch_size <= config.max_batch_size:
            faults.append(f"{each.name}: {sorted(each.inputs)}, {each.batch_size}")
        for name, given in each.inputs.items():
            data = (folder / "models" / config.name / "warmup" / given.input_data_file).read_bytes()
            kind = model_config_pb2.DataType.Name(given.data_type)
            size = int(np.prod(given.dims)) * _SIZES[kind] if kind in _SIZES else 4 + int.from_bytes(data[:4], "little")
            if len(data) != size:
                faults.append(f"{each.name}: {name} has {len(data)} bytes, not {size}")
    return faults


def test_python_models(bundle: Path, tmp_path: Path) -> None:
    found = written(bundle, tmp_path / "repo", threads=2, instances=3)
    assert sorted(found) == ["cxr_classify", "cxr_fill_mask", "cxr_image", "cxr_similarity", "cxr_text"]
    part = open_bundle(bundle).text_part()
    for name, config in found.items():
        assert config.backend == "python"
        task = TASKS[config.parameters["task"].string_value]
        assert {each.name for each in config.input} == set(task.inputs)
        assert {each.name for each in config.output} == set(task.outputs)
        assert config.instance_group[0].count == 3
        assert config.parameters["threads"].string_value == "2"
        assert "from runtime.triton.model import TritonPythonModel" in (
            tmp_path / "repo" / "models" / name / "1" / "model.py"
        ).read_text(encoding="utf-8")
        assert warm_up_faults(tmp_path / "repo", config) == []
    assert stated(found["cxr_text"].output) == {"EMBEDDING": ("TYPE_FP32", (part.embedding_size,))}
    assert [each.name for each in found["cxr_fill_mask"].input if each.optional] == ["TOP_K", "TARGETS"]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_graphs(backend: str, bundle: Path, tmp_path: Path) -> None:
    found = written(bundle, tmp_path / "repo", backend=backend, name="x-ray", threads=1)
    assert sorted(found) == ["x-ray_image", "x-ray_image_graph", "x-ray_pixels"] + [
        f"x-ray_{each}" for each in ("text", "text_graph", "tokens")
    ]
    for config in found.values():
        assert warm_up_faults(tmp_path / "repo", config) == []
    for part in ("text", "image"):
        graph = found[f"x-ray_{part}_graph"]
        assert graph.backend == backend
        assert graph_faults(tmp_path / "repo", graph) == []
        ensemble = found[f"x-ray_{part}"]
        assert ensemble.platform == "ensemble"
        assert ensemble_faults(found, ensemble) == []
        assert ensemble.max_batch_size <= min(
            found[step.model_name].max_batch_size for step in ensemble.ensemble_scheduling.step
        )
    keys = set(found["x-ray_text_graph"].parameters)
    threads = "INFERENCE_NUM_THREADS" if backend == "openvino" else "intra_op_thread_count"
    assert found["x-ray_text_graph"].parameters[threads].string_value == "1"
    # Of openvino_backend's ParseParameters; a key that it does not know is silently without effect.
    assert keys <= {"INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT"} | {"intra_op_thread_count"}


@pytest.mark.parametrize("backend", ["python", "onnxruntime", "openvino"])
def test_nothing_waits_without_bounds(backend: str, bundle: Path, tmp_path: Path) -> None:
    for config in written(bundle, tmp_path / "repo", backend=backend).values():
        assert config.version_policy.latest.num_versions == 1
        if config.platform == "ensemble":
            continue
        policy = config.dynamic_batching.default_queue_policy
        assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        assert (policy.default_timeout_microseconds, policy.max_queue_size) == (10_000_000, 256)
        assert config.dynamic_batching.max_queue_delay_microseconds == 0
        assert model_config_pb2.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind) == "KIND_CPU"


def test_both_backends_have_the_same_face(bundle: Path, tmp_path: Path) -> None:
    python = written(bundle, tmp_path / "python")
    graphs = written(bundle, tmp_path / "graphs", backend="onnxruntime")
    for name in ("cxr_text", "cxr_image"):
        assert stated(python[name].input) == stated(graphs[name].input)
        assert stated(python[name].output) == stated(graphs[name].output)


def test_bfloat16_is_a_hint_to_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(PROVIDERS["openvino"]), "refuses", lambda self, precision: None)
    made = write_bundle(tmp_path / "bundle", [artifact("fp32", ["openvino"], record("openvino", 0.9999, 1.0, "bf16"))])
    found = written(made, tmp_path / "repo", backend="openvino")
    assert found["cxr_text_graph"].parameters["HINT_BF16"].string_value == "YES"


def test_the_checks_find_what_does_not_fit(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    found = written(bundle, folder, backend="onnxruntime")
    path = folder / "models" / "cxr_text_graph" / "config.pbtxt"
    text = path.read_text(encoding="utf-8")
    for wrong in (
        text.replace('name: "attention_mask"', 'name: "mask"'),
        text.replace("TYPE_INT64", "TYPE_INT32", 1),
        re.sub(r"dims: \[ \d+ \]", "dims: [ 7 ]", text, count=1),
    ):
        assert wrong != text
        assert graph_faults(folder, text_format.Parse(wrong, model_config_pb2.ModelConfig()))
    with pytest.raises(text_format.ParseError, match="no field named"):
        text_format.Parse(text.replace("max_batch_size", "most"), model_config_pb2.ModelConfig())
    ensemble = model_config_pb2.ModelConfig()
    ensemble.CopyFrom(found["cxr_text"])
    del ensemble.ensemble_scheduling.step[1].input_map["attention_mask"]
    assert ensemble_faults(found, ensemble)
    ensemble.CopyFrom(found["cxr_text"])
    ensemble.ensemble_scheduling.step[1].output_map["text_embeds"] = "OTHER"
    assert ensemble_faults(found, ensemble) == ["EMBEDDING comes from nowhere"]
    (folder / "models" / "cxr_text_graph" / "warmup" / "input_ids_32").write_bytes(b"")
    assert warm_up_faults(folder, found["cxr_text_graph"])
