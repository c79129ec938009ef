"""Weights by name: those inside the package, and released ones in the user's cache."""

from hrpose.weights.registry import EMBEDDED, find, find_start

__all__ = ["EMBEDDED", "find", "find_start"]
