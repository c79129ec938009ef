"""Pictures as files' bytes, and as what a page has inside itself."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray


def encode(image: NDArray[np.uint8], suffix: str) -> bytes:
    """An (h, w, 3) uint8 RGB picture as the bytes of a `.png` or a `.jpg` file."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 86] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    return data.tobytes()


def source(image: NDArray[np.uint8], suffix: str = ".jpg") -> str:
    """The same as the `src` of an HTML picture, with all its bytes."""
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encode(image, suffix)).decode()}"
