"""The paper's augmentations (section 4.1, "Training"): changes of the crop before the one warp.

Each is a pure function of a crop and of random numbers; `draw_crop` draws them. Photometric changes
work on the warped pixels.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.geometry import Crop
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much training crops vary. The defaults are the paper's for COCO.

    Scale: factor 1 + `scale` * normal, clipped to [1 - scale, 1 + scale]. Rotation: with
    `rotation_probability`, `rotation_deg` * normal, clipped to twice `rotation_deg`. Half body: for
    persons with more than `half_body_min_keypoints` labeled keypoints. The official code intends to
    choose the upper body half of the time, but compares a normal draw with 0.5 and so chooses it
    0.69 of the time; published weights were trained so, and so is the default here.
    """

    scale: float = 0.35
    rotation_deg: float = 45.0
    rotation_probability: float = 0.6
    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_min_keypoints: int = 8
    half_body_upper_probability: float = 0.69
    half_body_padding: float = 1.5
    shift: float = 0.0
    """Standard deviation of the box's center, relative to its size; not in the paper."""
    photometric: float = 0.0
    """Strength in [0, 1] of changes of color, brightness and sharpness; not in the paper."""
    draws: Literal["normal", "uniform"] = "normal"
    """`uniform`: scale in [1 - scale, 1 + scale] and rotation in [-rotation_deg, rotation_deg] are
    equally likely everywhere, as in several other implementations."""


def draw_crop(
    crop: Crop,
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Crop:
    """Draw one augmented crop. `keypoints` (k, 3) are x, y in image pixels and visibility."""
    a = augmentation
    # Every number is drawn whether it is used or not, so that no choice shifts the others.
    half, upper, turn, mirror = rng.uniform(size=4)
    zoom, angle, *shift = rng.standard_normal(4)
    if half < a.half_body_probability:
        crop = half_body(
            crop, keypoints, skeleton, a, prefer_upper=upper < a.half_body_upper_probability
        )
    if a.draws == "uniform":
        zoom, angle = (math.erf(draw / math.sqrt(2)) for draw in (zoom, angle))
    factor = 1 + a.scale * min(1.0, max(-1.0, float(zoom)))
    rotation = a.rotation_deg * min(2.0, max(-2.0, float(angle)))
    (x, y), (w, h) = crop.center, crop.size
    return replace(
        crop,
        center=(x + a.shift * w * shift[0], y + a.shift * h * shift[1]),
        size=(w * factor, h * factor),
        rotation_deg=rotation if turn < a.rotation_probability else 0.0,
        mirrored=bool(mirror < a.flip_probability),
    )


def half_body(
    crop: Crop,
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    augmentation: Augmentation,
    prefer_upper: bool,
) -> Crop:
    """The crop around the labeled keypoints of one half of the body, or `crop` unchanged.

    The preferred half is chosen where more than two of its keypoints are labeled, else the lower
    one, and where that has no more than two either, the upper one; fewer than two change nothing.
    """
    labeled = keypoints[:, 2] > 0
    if not skeleton.upper_body or labeled.sum() <= augmentation.half_body_min_keypoints:
        return crop
    upper = [i for i in skeleton.upper_body if labeled[i]]
    lower = [i for i in skeleton.lower_body if labeled[i]]
    chosen = upper if (prefer_upper and len(upper) > 2) or len(lower) <= 2 else lower
    if len(chosen) < 2:
        return crop
    points = keypoints[chosen, :2].astype(np.float64)
    center, extent = points.mean(axis=0), np.ptp(points, axis=0)
    aspect = crop.input_wh[0] / crop.input_wh[1]
    width = max(extent[0], extent[1] * aspect, 1.0) * augmentation.half_body_padding
    return replace(crop, center=(float(center[0]), float(center[1])), size=(width, width / aspect))


def photometric(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast, color and sharpness of an (h, w, 3) uint8 RGB image.

    `strength` in [0, 1]; 0 returns the image. Each change happens about half of the time.
    """
    if strength <= 0:
        return image
    pixels: NDArray[Any] = image.astype(np.float32)
    if rng.uniform() < 0.7:
        gain = rng.uniform(1 - 0.4 * strength, 1 + 0.4 * strength, size=3)
        # Mostly one gain for all channels (brightness), a little for each (color).
        gain = 0.7 * gain.mean() + 0.3 * gain
        pixels = (pixels - 128) * rng.uniform(1 - 0.4 * strength, 1 + 0.4 * strength) + 128
        pixels *= gain.astype(np.float32)
    if rng.uniform() < 0.4:
        gray = pixels.mean(axis=2, keepdims=True)
        pixels = gray + (pixels - gray) * rng.uniform(1 - strength, 1 + 0.5 * strength)
    if rng.uniform() < 0.25 * strength:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.5))
    if rng.uniform() < 0.25 * strength:
        pixels = pixels + rng.normal(0, rng.uniform(2, 12), pixels.shape).astype(np.float32)
    changed: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return changed
