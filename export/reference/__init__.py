"""The PyTorch models as upstream builds them; nothing is rewritten here.

Imports `families`.
"""

from export.reference.models import BioViLImageModel, CXRBertModel, bert_config

__all__ = ["BioViLImageModel", "CXRBertModel", "bert_config"]
