"""Errors of measured processes."""


class PeerError(RuntimeError):
    """A measured process failed; the message holds the end of what it said."""
