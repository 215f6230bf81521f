"""The PyTorch models as upstream builds them."""
