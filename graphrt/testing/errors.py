"""What a kit raises when a definition breaks its contract."""

from __future__ import annotations


class OpCheckError(AssertionError):
    """An op does not do what the op contract says; the message names op, version, origin, example and numbers."""
