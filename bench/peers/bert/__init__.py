"""CXR-BERT as other tools make it fast, from its checkpoint alone.

Imports `errors`.
"""

from bench.peers.bert.foreign import FOREIGN_BERT
from bench.peers.bert.texts import BERT

__all__ = ["BERT", "FOREIGN_BERT"]
