"""Measure this engine beside what users run today: `python -m bench`."""

from runtime.process.privacy import keep_private

# Before a peer imports what it measures, here or in a child process.
keep_private()
