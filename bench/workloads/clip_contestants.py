"""Who is measured beside this engine on CLIP-likes: the packages that people run them with, and plain exports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.measuring import Entry
from bench.peers.contract import AS_THEY_COME, BATCH
from bench.record import Contestant
from bench.workloads.contestants import GPU_STEPS, on_gpu, openvino_default

__all__ = ["clip_peers"]

_SYSTEMS = ("texts", "images", "joint")
# Compiling takes minutes, and of an image with prompts it would be done again.
_COMPILED = ("texts", "images")
# Of both layouts: the package whose it is.
_TRANSFORMERS, _OPEN_CLIP = ("torch", "transformers"), ("torch", "open_clip", "timm")
_AS_RUN = f"texts in file order, images as they come, in batches of {AS_THEY_COME}; both towers are loaded"
_PADDED = f"texts padded to the model's longest, as its tokenizer does; {_AS_RUN}"
_TUNED = f"texts sorted by length in batches of {BATCH} and padded to the longest of a batch; {_AS_RUN.split('; ')[1]}"
_EXPORTED = (
    f"torch.onnx.export of the package's model, without this project's rewrites; texts sorted, in batches of {BATCH}"
)
_NOT_OPEN_CLIP = "it reads transformers' files, and this checkpoint lies in open_clip's"


def clip_peers(open_clip: bool) -> tuple[Entry, ...]:
    """Everything that a user would pick instead, the reference first, those on a GPU last.

    Args:
        open_clip: whether the checkpoint lies in open_clip's layout, which transformers and sentence-transformers do
            not read; the reference is the package whose layout it is.
    """
    package, modules = ("open_clip", _OPEN_CLIP) if open_clip else ("transformers", _TRANSFORMERS)
    note = _PADDED if open_clip else f"scaled-dot-product attention; {_AS_RUN}"
    reference = _entry("reference", f"{package} (PyTorch fp32)", "as run", note, modules, opener="clip-reference")
    reference = replace(reference, contestant=replace(reference.contestant, kind="reference"))
    tuned = _tuned(modules)
    alike = f"the same on the GPU; texts in batches of {GPU_STEPS['texts']}, images of {GPU_STEPS['images']}"
    return (
        reference,
        *([] if open_clip else [_eager()]),
        *(entry for entry in tuned if entry.contestant.precision != "fp16"),
        *_open_clip(open_clip),
        _sentence_transformers(open_clip),
        _fastembed(),
        *_exports(),
        on_gpu(reference, f"{package} on the GPU (PyTorch fp32)", "as on the processor"),
        *(
            on_gpu(entry, f"{entry.contestant.label} on the GPU", alike, **GPU_STEPS)
            for entry in tuned
            if "compile" not in entry.name
        ),
    )


def _entry(
    name: str,
    label: str,
    how: str,
    note: str,
    modules: tuple[str, ...],
    *,
    precision: str = "fp32",
    systems: tuple[str, ...] = _SYSTEMS,
    opener: str = "",
    **more: Any,
) -> Entry:
    contestant = Contestant(name, label, "peer", how, precision=precision, note=note)
    return Entry(contestant, opener or name, systems, modules, **more)


def _eager() -> Entry:
    return _entry(
        "transformers-eager",
        "transformers, attention step by step",
        "as run",
        f'attn_implementation="eager"; {_AS_RUN}',
        _TRANSFORMERS,
        opener="clip-eager",
        full=True,
    )


def _tuned(modules: tuple[str, ...]) -> tuple[Entry, ...]:
    """PyTorch as those who know it run it; fp16 is for a GPU."""
    eager = (
        _entry(f"torch-{precision}", f"PyTorch eager, {precision}", "tuned", note, modules, precision=precision,
               opener=f"clip-torch-{precision}")
        for precision, note in (("fp32", _TUNED), ("bf16", "the same in bfloat16"), ("fp16", "the same in fp16"))
    )  # fmt: skip
    compiled = (
        _entry(name, f"torch.compile, {precision}", "tuned", note, modules, precision=precision, systems=_COMPILED,
               opener=f"clip-{name}", full=True, seldom=True)
        for name, precision, note in (
            ("torch-compile", "fp32", f"compiled with dynamic shapes; {_TUNED}"),
            ("torch-compile-bf16", "bf16", "the same in bfloat16"),
        )
    )  # fmt: skip
    return (*eager, *compiled)


def _open_clip(own: bool) -> tuple[Entry, ...]:
    """As its users run it; of a checkpoint in its own layout in fp32 it is the reference."""
    note = _PADDED if own else f"the same weights in open_clip's model; {_PADDED}"
    return (
        *(() if own else (_entry("open-clip", "open_clip, fp32", "as run", note, _OPEN_CLIP),)),
        _entry("open-clip-bf16", "open_clip, bf16", "as run", note, _OPEN_CLIP, precision="bf16"),
        _entry("open-clip-compile", "open_clip, torch.compile, fp32", "tuned", note, _OPEN_CLIP, systems=_COMPILED,
               full=True, seldom=True),
    )  # fmt: skip


def _sentence_transformers(open_clip: bool) -> Entry:
    return _entry(
        "sentence-transformers-clip",
        "sentence-transformers, fp32",
        "as run",
        "SentenceTransformer of the checkpoint, images by Pillow; batches of 32, which it sorts; prepared images are "
        "prepared again",
        ("torch", "sentence_transformers"),
        left_out=_NOT_OPEN_CLIP if open_clip else "",
    )


def _fastembed() -> Entry:
    return _entry(
        "fastembed-clip",
        "fastembed, fp32",
        "as run",
        "its CLIP, told to take the files of the plain export; file order, batches of its own size; prepared images "
        "are prepared again",
        (),
        foreign=True,
    )


def _exports() -> tuple[Entry, ...]:
    plain = openvino_default()
    return (
        _entry("exported-onnxruntime", "ONNX Runtime, plain export, fp32", "as run", _EXPORTED, ("onnxruntime",)),
        _entry(
            "exported-onnxruntime-int8",
            "ONNX Runtime, plain export, dynamic int8",
            "tuned",
            f"quantize_dynamic of it; {_EXPORTED}",
            ("onnxruntime",),
            precision="int8",
        ),
        _entry(
            "exported-openvino",
            f"OpenVINO, plain export, defaults ({plain} here)",
            "as run",
            _EXPORTED,
            ("openvino",),
            precision=plain,
        ),
        _entry(
            "exported-openvino-fp32",
            "OpenVINO, plain export, fp32",
            "tuned",
            _EXPORTED,
            ("openvino",),
            full=True,
        ),
    )
