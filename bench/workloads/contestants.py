"""Who is measured: the peers, and every provider × precision of the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.errors import PeerError
from bench.measuring import Entry
from bench.peers.contract import BATCH
from bench.peers.loading import PILLOW
from bench.record import CPU, GPU, Contestant
from bench.record.contestant import on_device
from bench.workloads.bert_contestants import bert_peers
from runtime.bundle import FILL_MASK, Bundle
from runtime.choice import choose_precision
from runtime.engines import PROVIDERS, first_gpu, unavailable_reason
from runtime.errors import CxrEngineError

__all__ = ["GPU_STEPS", "PARTS", "REFERENCE", "choose", "engines", "on_gpu", "openvino_default", "peers"]

# systems of the workloads → parts of a bundle that they need
PARTS: Mapping[str, tuple[str, ...]] = {
    "texts": ("text",),
    "masks": ("text",),
    "images": ("image",),
    "joint": ("text", "image"),
}
_REFERENCE = ("torch", "transformers", "health_multimodal")


def _torch(name: str, label: str, precision: str, note: str, **more: Any) -> Entry:
    contestant = Contestant(name, label, "peer", "tuned", precision=precision, note=note)
    # Compiling takes minutes, and of an image with prompts it would be done again.
    systems = ("texts", "images") if name.startswith("torch-compile") else ("texts", "images", "joint")
    return Entry(contestant, name, systems, _REFERENCE, **more)


def _plain(name: str, label: str, how: str, precision: str, module: str, **more: Any) -> Entry:
    contestant = Contestant(name, label, "peer", how, precision=precision, note=_GRAPH, our_graph=True)
    return Entry(contestant, name, ("texts", "images", "joint"), (module, "health_multimodal"), **more)


def _by_pillow(entry: Entry, label: str) -> Entry:
    """The same for files alone, loaded by plain Pillow instead of the reference's functions."""
    of = "the bundle's graph" if entry.contestant.our_graph else "channels last"
    contestant = replace(
        entry.contestant, name=f"{entry.name}-pillow", label=label, how="tuned", note=f"{of}; {_BY_PILLOW}"
    )
    return replace(entry, contestant=contestant, systems=("files",), told={"loading": PILLOW})


def on_gpu(entry: Entry, label: str, note: str, **more: Any) -> Entry:
    """The same on the first GPU, but for masks, which this engine does not fill there."""
    contestant = replace(
        entry.contestant, name=on_device(entry.name, True), label=label, note=note, device=GPU, kind="peer"
    )
    systems = tuple(system for system in entry.systems if system != "masks")
    return replace(entry, contestant=contestant, systems=systems, told={"device": "cuda", **more})


def _foreign(name: str, label: str, precision: str, *systems: str, full: bool = False) -> Entry:
    """Of the environment of `make peers`."""
    note = _FOREIGN_NOTES.get(name, _OPENED)
    contestant = Contestant(name, label, "peer", "as run", precision=precision, note=note, our_graph=name in _OPENERS)
    return Entry(contestant, name, systems, foreign=True, full=full)


def openvino_default() -> str:
    """What OpenVINO computes fp32 graphs in where nothing is said."""
    openvino = PROVIDERS["openvino"]
    return "fp32" if openvino.missing() or openvino.bf16_missing() else "bf16"


# What the tuned take at a time on a GPU: of 8, 32 and 128 texts and of 1, 4, 16 and 64 images the most were quickest in
# PyTorch on an H100, in fp16 by 2.0 and 1.4 times those before them.
GPU_STEPS = {"texts": 128, "images": 64}
# Texts that are laid end to end where nothing is padded: as many tokens as a GPU is busy with. Not measured there.
UNPADDED = 512
_SORTED = f"texts sorted, in batches of {GPU_STEPS['texts']}; images in batches of {GPU_STEPS['images']}, decoded "
_SORTED += "on all threads; without TF32"
_GRAPH = f"the bundle's graph; texts sorted, in batches of {BATCH}; images one by one, by the reference's functions"

_BY_PILLOW = "one by one, decoded on a thread beside the network; remapped, resized and cropped by Pillow in 8 bits"
_OPENED = "opens the bundle's text folder, so with this project's rewrites; transformers 4"
# Of those, who open the bundle's text folder.
_OPENERS = ("sentence-transformers-onnx", "sentence-transformers-openvino", "fastembed")
_FOREIGN_NOTES = {
    "reference-engine": "TextInferenceEngine, as the package documents it; transformers 4",
    "optimum": "its own export of the checkpoint's BERT, the projection head in PyTorch; transformers 4",
    "fastembed": "opens the bundle's text folder, so with this project's rewrites; file order, batches of its own size",
}

REFERENCE = Entry(
    Contestant(
        "reference",
        "hi-ml-multimodal (PyTorch fp32)",
        "reference",
        "as run",
        note="texts in file order in batches of 32, with the masked-language head that it computes and throws away; "
        "images one by one; masks by transformers' pipeline",
    ),
    "reference",
    ("texts", "masks", "images", "joint"),
    _REFERENCE,
)


def peers() -> tuple[Entry, ...]:
    """Everything that a user would pick instead, the reference first, those on a GPU last."""
    plain = openvino_default()
    bf16 = _torch("torch-bf16", "PyTorch eager, bf16", "bf16", "the same in bfloat16")
    onnxruntime = _plain("onnxruntime", "ONNX Runtime, fp32", "as run", "fp32", "onnxruntime")
    onnxruntime_int8 = _plain("onnxruntime-int8", "ONNX Runtime, int8", "tuned", "int8", "onnxruntime", full=True)
    openvino_int8 = _plain("openvino-int8", "OpenVINO, int8", "tuned", "int8", "openvino")
    return (
        REFERENCE,
        _torch(
            "torch-fp32",
            "PyTorch eager, fp32",
            "fp32",
            f"the embedding alone, sorted by length in batches of {BATCH}, scaled-dot-product attention; "
            "images channels last, one by one",
        ),
        bf16,
        _by_pillow(bf16, "PyTorch eager, bf16, files by Pillow"),
        _torch(
            "torch-compile",
            "torch.compile, fp32",
            "fp32",
            "the same, compiled with dynamic shapes",
            full=True,
            seldom=True,
        ),
        _torch(
            "torch-compile-bf16",
            "torch.compile, bf16",
            "bf16",
            "the same in bfloat16, compiled",
            full=True,
            seldom=True,
        ),
        onnxruntime,
        _by_pillow(onnxruntime, "ONNX Runtime, fp32, files by Pillow"),
        onnxruntime_int8,
        _by_pillow(onnxruntime_int8, "ONNX Runtime, int8, files by Pillow"),
        _plain("openvino", f"OpenVINO, defaults ({plain} here)", "as run", plain, "openvino"),
        _plain("openvino-fp32", "OpenVINO, fp32", "tuned", "fp32", "openvino", full=True),
        openvino_int8,
        _by_pillow(openvino_int8, "OpenVINO, int8, files by Pillow"),
        _foreign("reference-engine", "hi-ml-multimodal's own text engine (transformers 4)", "fp32", "texts", full=True),
        _foreign("optimum", "optimum-onnx, its own export, fp32", "fp32", "texts", "masks"),
        _foreign("sentence-transformers-onnx", "sentence-transformers, ONNX, fp32", "fp32", "texts"),
        _foreign("sentence-transformers-openvino", f"sentence-transformers, OpenVINO ({plain} here)", plain, "texts"),
        _foreign("fastembed", "fastembed, fp32", "fp32", "texts"),
        *bert_peers(),
        *_gpu_peers(),
    )


def _gpu_peers() -> tuple[Entry, ...]:
    """The same on a GPU."""
    torch_fp16, compiled = (
        _torch(name, "", "fp16", "", full=name.startswith("torch-compile"), seldom=name.startswith("torch-compile"))
        for name in ("torch-fp16", "torch-compile-fp16")
    )
    torch_fp32, torch_bf16 = (_torch(f"torch-{precision}", "", precision, "") for precision in ("fp32", "bf16"))
    plain, plain_fp16 = (
        replace(_plain(name, "", "as run", precision, "onnxruntime"), opener=on_device(name, True))
        for name, precision in (("onnxruntime", "fp32"), ("onnxruntime-fp16", "fp16"))
    )
    unpadded, captured = (
        replace(_torch(name, "", "fp16", "", full=True, seldom=True), systems=("texts",))
        for name in ("torch-varlen-fp16", "torch-graphs-fp16")
    )
    alike = f"the embedding alone, scaled-dot-product attention, channels last; {_SORTED}"
    return (
        on_gpu(REFERENCE, "hi-ml-multimodal on the GPU (PyTorch fp32)", "as on the processor; without TF32"),
        on_gpu(torch_fp32, "PyTorch eager on the GPU, fp32", alike, **GPU_STEPS),
        on_gpu(torch_bf16, "PyTorch eager on the GPU, bf16", "the same in bfloat16", **GPU_STEPS),
        on_gpu(torch_fp16, "PyTorch eager on the GPU, fp16", "the same in half precision", **GPU_STEPS),
        # Convolutions gain little, and each number of images is compiled anew.
        on_gpu(
            replace(compiled, systems=("texts",)), "torch.compile on the GPU, fp16", "the same, compiled", **GPU_STEPS
        ),
        on_gpu(
            unpadded,
            "PyTorch without padding on the GPU, fp16",
            f"torch.nn.attention.varlen (FlashAttention), {UNPADDED} texts laid end to end",
            texts=UNPADDED,
        ),
        on_gpu(
            captured,
            "torch.compile with CUDA graphs on the GPU, fp16",
            'mode="reduce-overhead"; a text at a time, padded to 16, 32, 64 or a multiple of 64 tokens',
        ),
        on_gpu(plain, "ONNX Runtime on the GPU, fp32", f"the bundle's graph; {_SORTED}", **GPU_STEPS),
        on_gpu(plain_fp16, "ONNX Runtime on the GPU, fp16", f"the bundle's graph; {_SORTED}", **GPU_STEPS),
    )


def engines(bundle: Bundle, systems: Sequence[str]) -> Iterator[Entry]:
    """This engine on every provider in every precision that the bundle has for it.

    Providers that cannot run here are left out unless they were the only ones: a GPU that is not there is no news.
    """
    for provider in PROVIDERS.values():
        if unavailable_reason(provider):
            continue
        for precision in _precisions(bundle, provider.name):
            able = tuple(
                system
                for system in systems
                if set(PARTS[system]) <= set(bundle.parts())
                and all(_has(bundle, part, provider.name, precision) for part in PARTS[system])
                and (system != "masks" or bundle.artifacts("text", provider.name, FILL_MASK))
            )
            contestant = Contestant(
                f"engine-{provider.name}-{precision}",
                f"this engine, {_LABELS.get(provider.name, provider.name)}, {precision}",
                "engine",
                provider=provider.name,
                precision=precision,
                device=GPU if provider.extra == "gpu" else CPU,
            )
            told = {"provider": provider.name, "precision": precision}
            yield Entry(contestant, "engine", able, seldom=precision == "bf16", told=told)
            if "images" in able and precision == "int8":
                fast = replace(
                    contestant,
                    name=f"{contestant.name}-fast-decode",
                    label=f"{contestant.label}, fast_decode",
                    kind="option",
                    note="JPEG decoded at a fraction of its size: its pixels are not the reference's",
                )
                yield Entry(fast, "engine", ("files",), told={**told, "fast_decode": True})
            if "masks" in able:
                everywhere = Contestant(
                    f"every-token-{provider.name}-{precision}",
                    f"the same on every token, {_LABELS.get(provider.name, provider.name)}, {precision}",
                    "option",
                    provider=provider.name,
                    precision=precision,
                    note="this engine's graph asked for the words at every token instead of at the masks",
                )
                # In other precisions it is what the words are compared with.
                yield Entry(everywhere, "every-token", ("masks",), seldom=precision in ("fp32", "bf16"), told=told)


_LABELS = {"cpu": "ONNX Runtime", "openvino": "OpenVINO", "cuda": "CUDA", "tensorrt": "TensorRT"}


def _precisions(bundle: Bundle, provider: str) -> list[str]:
    found = []
    for part in bundle.parts():
        for artifact in bundle.artifacts(part, provider):
            found.append(artifact.precision)
            if artifact.precision == "fp32":
                found += sorted(PROVIDERS[provider].from_fp32)
    return list(dict.fromkeys(precision for precision in found if not PROVIDERS[provider].refuses(precision)))


def _has(bundle: Bundle, part: str, provider: str, precision: str) -> bool:
    try:
        choose_precision(bundle, part, PROVIDERS[provider], precision)
    except CxrEngineError:
        return False
    return True


def choose(entries: Sequence[Entry], names: Sequence[str], full: bool) -> list[Entry]:
    """Those that are asked for, and always the reference.

    Args:
        entries: all.
        names: of contestants, or "engine" for all of this engine's; empty takes all that could run here.
        full: time is not bound: all are measured, in every case.

    Raises:
        PeerError: an unknown name; the message lists the known ones.
    """
    known = {entry.name for entry in entries} | {"engine"}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PeerError(f"There is no peer {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(known))}.")
    if full:
        entries = [replace(entry, seldom=False) for entry in entries]
    if not names:
        # A GPU that is not there is no news.
        entries = [entry for entry in entries if not entry.on_gpu or first_gpu() is not None]
        left_out = "left out where time is bound; it is measured with --full, or with --peers {}"
        return [
            replace(entry, seldom=True, left_out=left_out.format(entry.name)) if entry.full and not full else entry
            for entry in entries
        ]
    return [
        entry
        for entry in entries
        if entry.name == REFERENCE.name
        or entry.name in names
        or (entry.opener in ("engine", "every-token") and ("engine" in names or entry.partner in names))
    ]
