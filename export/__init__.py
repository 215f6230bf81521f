"""Export CXR-BERT and BioViL checkpoints to checked bundles of ONNX files: `python -m export`."""
