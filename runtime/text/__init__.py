"""Texts: tokens, batches, packing, windows over long queues, the encoder, and words for masks.

Imports `process`, `engines` and `bundle`.
"""

from runtime.text.batching import pad_batch, plan_batches
from runtime.text.encoder import TextEncoder
from runtime.text.tokenization import Tokenizer

__all__ = ["TextEncoder", "Tokenizer", "pad_batch", "plan_batches"]
