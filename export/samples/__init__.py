"""Texts and images to export with: sentences, phantoms, and calibration sets."""
