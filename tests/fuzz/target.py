"""What a target is: good bytes to damage, and what reads them."""

from collections.abc import Callable
from typing import Any

Target = tuple[list[bytes], Callable[[bytes], Any]]
