"""Every artifact beside the PyTorch reference."""
