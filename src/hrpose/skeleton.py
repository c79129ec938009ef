"""What the keypoints are: names, left-right pairs, limbs, OKS constants, weights, body halves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

# For a keypoint without a constant of its own; COCO's lie between 0.025 and 0.107.
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one kind of body, in the order of every array's keypoint axis.

    `flip_pairs` (left first: drawings colour the sides) and `limbs` are pairs of indices, `sigmas`
    the OKS constants of COCO's definition (its k is 2 sigma), `weights` scale each keypoint's loss,
    `upper_body` are the keypoints of one half for the half-body augmentation (the others form the
    other half). `sigmas` and `weights` may be left empty for 0.05 and 1 everywhere. Raises
    ValueError where the parts do not fit.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    upper_body: tuple[int, ...] = ()

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

    def _error(self, field: str, expected: str, found: object) -> ValueError:
        return ValueError(f"skeleton '{self.name}', {field}: expected {expected}, found {found}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def flip_permutation(self) -> NDArray[np.int64]:
        """(k,): the keypoint that each becomes in the mirror image. It is its own inverse."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[[left, right]] = right, left
        return order

    @cached_property
    def lower_body(self) -> tuple[int, ...]:
        """The keypoints outside `upper_body`; empty where no halves are defined."""
        if not self.upper_body:
            return ()
        return tuple(i for i in range(len(self)) if i not in self.upper_body)

    @classmethod
    def from_coco_category(cls, category: Mapping[str, Any]) -> "Skeleton":
        """Read a COCO category with `keypoints` and, where present, `skeleton` (1-based pairs).

        A category with the names of COCO_17 or MPII_16 is that skeleton. Flip pairs of others are
        found by their left/right names (`left_ear`/`right_ear`, `l_hip`/`r_hip`, `lhip`/`rhip`
        ...).
        """
        names = tuple(str(name) for name in category["keypoints"])
        for known in (COCO_17, MPII_16):
            if names == known.keypoints:
                return known
        limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        name = str(category.get("name", "unnamed"))
        return cls(name, names, flip_pairs=guess_flip_pairs(names), limbs=limbs)

    def to_coco_category(self, category_id: int = 1) -> dict[str, Any]:
        return {
            "id": category_id,
            "name": "person" if self in (COCO_17, MPII_16) else self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.limbs],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a passport. `from_dict` is the inverse."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "limbs": [list(pair) for pair in self.limbs],
            "sigmas": list(self.sigmas),
            "weights": list(self.weights),
            "upper_body": list(self.upper_body),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Skeleton":
        return cls(
            name=str(data["name"]),
            keypoints=tuple(data["keypoints"]),
            flip_pairs=_pairs(data.get("flip_pairs", ())),
            limbs=_pairs(data.get("limbs", ())),
            sigmas=tuple(data.get("sigmas", ())),
            weights=tuple(data.get("weights", ())),
            upper_body=tuple(data.get("upper_body", ())),
        )


def _pairs(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in pairs)


_SIDES = (
    ("left", "right"),
    ("Left", "Right"),
    ("l_", "r_"),
    ("L_", "R_"),
    ("_l", "_r"),
    ("l", "r"),
)


def guess_flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices whose names differ only by left and right; a guess, to be looked at."""
    index = {name: i for i, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for i, name in enumerate(names):
        for left, right in _SIDES:
            # The single letters count only at the front (lhip), the others anywhere once.
            twin = (
                right + name[1:]
                if left == "l" and name.startswith("l")
                else name.replace(left, right, 1)
                if len(left) > 1
                else name
            )
            j = index.get(twin, i)
            if j != i and i not in pairs and i not in pairs.values() and j not in pairs.values():
                pairs[i] = j
    return tuple(pairs.items())


COCO_17 = Skeleton(
    name="coco-17",
    keypoints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # cocodataset.org, "keypoints evaluation": measured on 5,000 images annotated twice.
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
    weights=(1, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5),
    upper_body=tuple(range(11)),
)  # fmt: skip

# MPII's order. Its measure is PCKh; the OKS constants are COCO's where COCO has the keypoint, and
# for the four on the body's axis those of the nearest that it has.
MPII_16 = Skeleton(
    name="mpii-16",
    keypoints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12),
        (12, 7), (7, 13), (13, 14), (14, 15),
    ),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.035, 0.062, 0.072, 0.079,
        0.079, 0.072, 0.062,
    ),
    upper_body=tuple(range(7, 16)),
)  # fmt: skip
