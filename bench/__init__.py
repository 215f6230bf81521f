"""Measure this engine beside what users run today: `python -m bench`."""
