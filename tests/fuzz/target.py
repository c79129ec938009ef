"""What a target is: good bytes to damage, and what reads them; `close(read)` ends it."""

from collections.abc import Callable
from typing import Any

Target = tuple[list[bytes], Callable[[bytes], Any]]


def close(read: Callable[[bytes], Any]) -> None:
    """Ends what a reader keeps open, where it is more than a function."""
    if hasattr(read, "close"):
        read.close()
