"""Pictures as what a page has inside itself."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.encoding import encode


def source(image: NDArray[np.uint8], suffix: str = ".jpg") -> str:
    """An (h, w, 3) uint8 RGB picture as the `src` of an HTML picture: all bytes of a `.png` or
    `.jpg` file. Raises UserError where it is too large for that.
    """
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    content = encode(image, suffix, {cv2.IMWRITE_JPEG_QUALITY: 86} if suffix == ".jpg" else {})
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
