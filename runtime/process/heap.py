"""Memory that is needed again and again, kept by the C library.

glibc takes blocks of 128 KB and more from the system and gives them back when they are freed, until it has seen a
larger one freed: from then on it keeps so much, and twice as much at the end of its heaps. A radiograph of 2,500 ×
2,048 pixels is worked on in blocks of 5 to 10 MB, just so large that each file's memory was given back: 2,450 pages of
a JPEG file had to be fetched and cleared anew, a quarter of the time that the processor spends on the file. A block
freed once, of which no page was ever touched, says that blocks as large as any of a radiograph will be needed again.
What MALLOC_TRIM_THRESHOLD_ or mallopt say stays as it is.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["expect_large_blocks"]

# glibc learns from blocks of up to 32 MB, and then keeps up to 64 MB at the end of a heap.
_BYTES = 31 << 20


@cache
def expect_large_blocks() -> None:
    """Let the C library keep what blocks of up to 31 MB leave; done once in a process, and of no effect elsewhere."""
    np.empty(_BYTES, np.uint8)
