"""Texts: tokens, packing and windows, the encoder, and words for masks."""
