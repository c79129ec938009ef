"""The golden numbers, read once; the rules for their inputs are the package's own.

A rule that changed would make other inputs, whose results are not the recorded ones.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hrpose.evaluation.parity.golden import Golden, image, network_input, weight

__all__ = ["GOLDEN", "arrays", "facts", "image", "network_input", "weight"]

GOLDEN = Path(__file__).parent / "golden"

_WHOLE = Golden.open(GOLDEN)


def facts(name: str) -> Any:
    """The JSON part of a golden file."""
    return _WHOLE.facts(name)


def arrays(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a golden file. They are shared between tests: not to be written to."""
    return _WHOLE.arrays(name)
