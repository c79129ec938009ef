"""Pictures as the bytes of files."""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError


def encode(
    image: NDArray[np.uint8], suffix: str, settings: Mapping[int, int] = MappingProxyType({})
) -> bytes:
    """An (h, w, 3) RGB or (h, w) grey uint8 picture as a file of the kind `suffix`, `.png` say.

    `settings` are OpenCV's (`cv2.IMWRITE_*`). Raises UserError for a picture that the kind cannot
    hold: a JPEG ends at 65,500 pixels, a WebP at 16,383.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    flat = [value for pair in settings.items() for value in pair]
    done, data = cv2.imencode(suffix, pixels, flat)
    if not done:
        height, width = image.shape[:2]
        raise UserError(
            f"a picture of {width} x {height} pixels cannot be written as {suffix}; "
            "make it smaller, or choose PNG"
        )
    return data.tobytes()
