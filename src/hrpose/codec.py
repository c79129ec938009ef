"""The codec: how a network's points become heatmaps and its heatmaps points, chosen once by name.

Training, evaluation, prediction and export take their codec from the passport, so that weights are
never read in another way than they were trained for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose import heatmap
from hrpose.heatmap import Array

CODECS = ("gaussian", "dark", "udp")
# Far beyond what anybody trains; a stranger's file may ask for more memory than there is.
LARGEST_SIGMA = 100.0
LARGEST_STRIDE = 64


@dataclass(frozen=True, slots=True)
class Codec:
    """One of three; `sigma` in heatmap pixels, `stride` input pixels per heatmap pixel.

    - `gaussian`: the paper's. Gaussians on whole pixels, quarter offset, flip test with a shift.
    - `dark` (Zhang et al., CVPR 2020): Gaussians on the points themselves; a Taylor step on the
      logarithm of the smoothed heatmap finds the maximum between the pixels.
    - `udp` (Huang et al., CVPR 2020): as `dark`, and lengths are counted between pixel centres
      (n - 1 for n pixels), in the crop too. A mirrored crop is then exactly the mirror image, and
      the flip test needs no shift.
    """

    name: str = "gaussian"
    sigma: float = 2.0
    stride: int = 4

    def __post_init__(self) -> None:
        if self.name not in CODECS:
            raise ValueError(f"codec: expected one of {', '.join(CODECS)}, found '{self.name}'")
        if not 0 < self.sigma <= LARGEST_SIGMA:
            raise ValueError(
                f"sigma: expected above 0, up to {LARGEST_SIGMA:g}, found {self.sigma}"
            )
        if not 1 <= self.stride <= LARGEST_STRIDE:
            raise ValueError(f"stride: expected 1 to {LARGEST_STRIDE}, found {self.stride}")

    @property
    def unit_lengths(self) -> bool:
        """Lengths are counted between pixel centres (UDP)."""
        return self.name == "udp"

    def heatmap_wh(self, input_wh: tuple[int, int]) -> tuple[int, int]:
        return input_wh[0] // self.stride, input_wh[1] // self.stride

    def encode(
        self, points_xy: Array, visible: Array, input_wh: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Points (..., k, 2) in input pixels to heatmaps (..., k, h, w) and weights (..., k)."""
        size = self.heatmap_wh(input_wh)
        strides = self.strides(size)
        exact = self.name != "gaussian"
        return heatmap.encode(points_xy, visible, size, self.sigma, strides, exact=exact)

    def decode(self, heatmaps: Array) -> tuple[Array, Array]:
        """Heatmaps (..., k, h, w) to points (..., k, 2) in input pixels and scores (..., k)."""
        if self.name == "gaussian":
            points, scores = heatmap.decode(heatmaps)
        else:
            points, scores = heatmap.decode_taylor(heatmaps, self.sigma)
        height, width = heatmaps.shape[-2:]
        return heatmap.scaled(points, self.strides((width, height))), scores

    def flip_back(
        self, mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64]
    ) -> Array:
        """Heatmaps of a mirrored crop, turned back onto the crop: see `heatmap.flip_back`."""
        return heatmap.flip_back(mirrored, flip_permutation, shift=not self.unit_lengths)

    def merge_flipped(
        self, direct: Array, mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64]
    ) -> Array:
        """The flip test, see `heatmap.merge_flipped`."""
        return heatmap.merge_flipped(
            direct, mirrored, flip_permutation, shift=not self.unit_lengths
        )

    def strides(self, heatmap_wh: tuple[int, int]) -> tuple[float, float]:
        """Input pixels per heatmap pixel, along x and y."""
        if not self.unit_lengths:
            return self.stride, self.stride
        x, y = ((n * self.stride - 1) / max(n - 1, 1) for n in heatmap_wh)
        return x, y


PAPER_CODEC = Codec()
