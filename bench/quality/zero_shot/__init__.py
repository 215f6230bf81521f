"""Zero-shot classification of labelled images: what is read, how it is measured, and the command.

Imports `encoders`, `torch_text` and `torch_image` of `bench.quality`.
"""
