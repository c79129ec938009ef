"""Pictures as files' bytes."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode(image: NDArray[np.uint8], suffix: str) -> bytes:
    """An (h, w, 3) uint8 RGB picture as the bytes of a `.png` or a `.jpg` file."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 86] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    return data.tobytes()
