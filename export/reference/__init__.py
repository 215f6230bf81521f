"""The PyTorch models as upstream builds them; nothing is rewritten here.

Imports `families`.
"""

from export.reference.image import BioViLImageModel
from export.reference.text import CXRBertModel, bert_config

__all__ = ["BioViLImageModel", "CXRBertModel", "bert_config"]
