"""`python -m export triton`: a bundle as a model repository of Triton Inference Server.

Imports `staging`, `errors` and the runtime; no torch. What runs in Triton's processes is `runtime.triton`.
"""
