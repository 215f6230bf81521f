"""The parts of a bundle, each from model to proven artifacts."""
