"""Export CXR-BERT and BioViL checkpoints to checked bundles of ONNX files: `python -m export`."""

from runtime.process.privacy import keep_private

# Before anything here imports torch, transformers, NNCF or the hub's client, and for the processes that are started.
keep_private()
