"""Processes that are measured from outside, and the machine they run on."""
