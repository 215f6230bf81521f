"""CLIP's byte-pair tokenizer: read from a checkpoint or taken from open_clip's package, and written for a bundle."""

from export.checkpoints.bpe.files import BPE_FILES, BytePairs, read_byte_pairs
from export.checkpoints.bpe.open_clip import open_clip_byte_pairs
from export.checkpoints.bpe.writing import write_bpe_tokenizer, write_hub_files

__all__ = [
    "BPE_FILES",
    "BytePairs",
    "open_clip_byte_pairs",
    "read_byte_pairs",
    "write_bpe_tokenizer",
    "write_hub_files",
]
