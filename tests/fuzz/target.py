"""A target: valid bytes to damage, and their reader, which `close` ends."""

from collections.abc import Callable
from typing import Any

Target = tuple[list[bytes], Callable[[bytes], Any]]


def close(read: Callable[[bytes], Any]) -> None:
    """Close a reader that is more than a function."""
    if hasattr(read, "close"):
        read.close()
