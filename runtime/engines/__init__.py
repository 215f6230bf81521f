"""The table of inference engines, one file each, and what they need to know of the machine."""
