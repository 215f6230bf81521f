"""`runtime` stands alone: no torch, no transformers, no onnx, and nothing of the other packages."""

from __future__ import annotations

import pkgutil

import runtime

BLOCKED = ("torch", "torchvision", "transformers", "onnx", "onnxscript", "huggingface_hub", "export", "bench")

_IMPORT_ALL = f"""
import sys, importlib
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
for name in {[found.name for found in pkgutil.walk_packages(runtime.__path__, "runtime.")]!r}:
    importlib.import_module(name)
print("imported")
"""


def test_every_module_imports_with_the_training_stack_blocked(fresh_python) -> None:
    assert fresh_python(_IMPORT_ALL).strip() == "imported"


def test_importing_the_runtime_loads_no_engine_and_no_extra(fresh_python) -> None:
    heavy = ["onnxruntime", "openvino", "pydicom", "nibabel", "pyarrow", "matplotlib", "tqdm", "faiss", "torch", "PIL"]
    # Each costs a first text a millisecond or two.
    heavy += [
        "runtime.image.dicom",
        "runtime.tasks.grounding",
        "runtime.retrieval.index",
        "runtime.tasks.joint",
        "runtime.tasks.zero_shot",
    ]
    loaded = fresh_python(f"import runtime, sys; print([name for name in {heavy!r} if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_the_public_names_are_the_documented_ones() -> None:
    assert set(runtime.__all__) == {
        "Box",
        "BundleError",
        "CxrEngineError",
        "Engine",
        "Fault",
        "Filled",
        "Found",
        "Grounding",
        "GroundingScores",
        "ImageEncoder",
        "Index",
        "InputError",
        "MaskedAccuracy",
        "MissingExtraError",
        "ProviderError",
        "TextEncoder",
        "__version__",
        "build_index",
        "load",
        "open_index",
        "score_grounding",
    }
    assert all(hasattr(runtime, name) for name in runtime.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert runtime.__version__ == version("cxr-engine")
