"""`Skeleton`: keypoint names, left-right pairs, limbs, OKS constants, weights, colors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

# For a keypoint without a constant of its own; COCO's lie between 0.025 and 0.107.
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one kind of body, in the order of every array's keypoint axis.

    `keypoints` are names. `flip_pairs` (left first: drawings color the sides) and `limbs` are pairs
    of indices, `sigmas` the OKS constants of COCO's definition (its k is 2 sigma), `weights` scale
    each keypoint's loss, `upper_body` are the keypoints of one half for the half-body augmentation
    (the others form the other half). `sigmas` and `weights` may be empty for 0.05 and 1 everywhere,
    `colors` (RGB of each keypoint) for drawings by side. `category` is the name of the category in
    COCO files, if it is not `name`. Raises ValueError where the parts do not fit.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    upper_body: tuple[int, ...] = ()
    colors: tuple[Color, ...] = ()
    category: str = ""

    def __post_init__(self) -> None:
        k = len(self.keypoints)
        if k == 0 or len(set(self.keypoints)) != k:
            raise self._error("keypoints", "at least one name and no name twice", self.keypoints)
        for field, default in (("sigmas", DEFAULT_SIGMA), ("weights", 1.0)):
            values = getattr(self, field) or (default,) * k
            if len(values) != k or not all(np.isfinite(v) and v > 0 for v in values):
                raise self._error(field, f"{k} positive numbers", values)
            object.__setattr__(self, field, tuple(float(v) for v in values))
        for field in ("flip_pairs", "limbs"):
            for pair in getattr(self, field):
                if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= i < k for i in pair):
                    raise self._error(field, f"pairs of different indices below {k}", pair)
        paired = [index for pair in self.flip_pairs for index in pair]
        if len(set(paired)) != len(paired):
            raise self._error("flip_pairs", "each keypoint in at most one pair", self.flip_pairs)
        if not all(0 <= i < k for i in self.upper_body):
            raise self._error("upper_body", f"indices below {k}", self.upper_body)
        if self.colors and (
            len(self.colors) != k
            or not all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in self.colors)
        ):
            raise self._error("colors", f"{k} of red, green and blue, 0 to 255", self.colors)

    def _error(self, field: str, expected: str, found: object) -> ValueError:
        return ValueError(f"skeleton '{self.name}', {field}: expected {expected}, found {found}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def flip_permutation(self) -> NDArray[np.int64]:
        """(k,) the keypoint that each becomes in the mirror image; it is its own inverse."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[[left, right]] = right, left
        return order

    @property
    def has_sigmas(self) -> bool:
        """Whether OKS constants were given; an OKS by the default ones is not comparable."""
        return any(sigma != DEFAULT_SIGMA for sigma in self.sigmas)

    @cached_property
    def lower_body(self) -> tuple[int, ...]:
        """The keypoints outside `upper_body`; empty if no halves are defined."""
        if not self.upper_body:
            return ()
        return tuple(i for i in range(len(self)) if i not in self.upper_body)

    def to_coco_category(self, category_id: int = 1) -> dict[str, Any]:
        """The category of a COCO file: names, and limbs counted from 1."""
        return {
            "id": category_id,
            "name": self.category or self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.limbs],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for metadata. `from_dict` is the inverse."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "limbs": [list(pair) for pair in self.limbs],
            "sigmas": list(self.sigmas),
            "weights": list(self.weights),
            "upper_body": list(self.upper_body),
            "colors": [list(color) for color in self.colors],
            "category": self.category,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Skeleton":
        """The skeleton that `to_dict` wrote as `data`; missing parts have their defaults."""
        colors = data.get("colors", data.get("colours", ()))  # the key of older files
        return cls(
            name=str(data["name"]),
            keypoints=tuple(str(keypoint) for keypoint in data["keypoints"]),
            flip_pairs=_pairs(data.get("flip_pairs", ())),
            limbs=_pairs(data.get("limbs", ())),
            sigmas=tuple(data.get("sigmas", ())),
            weights=tuple(data.get("weights", ())),
            upper_body=tuple(int(index) for index in data.get("upper_body", ())),
            colors=tuple((int(r), int(g), int(b)) for r, g, b in colors),
            category=str(data.get("category", "")),
        )


def _pairs(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in pairs)


_SIDES = (
    ("left", "right"),
    ("Left", "Right"),
    ("l_", "r_"),
    ("L_", "R_"),
    ("_l", "_r"),
    ("_L", "_R"),
    (".l", ".r"),
    (".L", ".R"),
    ("LEFT", "RIGHT"),
    ("左", "右"),
    ("l", "r"),
)


def guess_flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices whose names differ only by left and right: a guess, to be checked."""
    index = {name: i for i, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for i, name in enumerate(names):
        for left, right in _SIDES:
            # Single letters count at the front only (lhip), the others anywhere once.
            twin = (
                right + name[1:]
                if left == "l" and name.startswith("l")
                else name.replace(left, right, 1)
                if left != "l"
                else name
            )
            j = index.get(twin, i)
            if j != i and i not in pairs and i not in pairs.values() and j not in pairs.values():
                pairs[i] = j
    return tuple(pairs.items())
