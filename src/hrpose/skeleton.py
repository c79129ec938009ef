"""`Skeleton`: keypoint names, left-right pairs, limbs, OKS constants, weights, colors."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    COCO files, if it is not `name`. `has_sigmas` is whether OKS constants were given, also where
    all are 0.05; an OKS by default ones is not comparable. Raises ValueError where the parts do not
    fit.
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
    has_sigmas: bool | None = None

    def __post_init__(self) -> None:
        k = len(self.keypoints)
        # False stays, where `replace` copies the default constants.
        other = any(sigma != DEFAULT_SIGMA for sigma in self.sigmas)
        given = bool(self.sigmas) if self.has_sigmas is None else self.has_sigmas
        object.__setattr__(self, "has_sigmas", given or other)
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

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """(k,) the part that each keypoint is of, by its name: body, foot, face, hand, left_hand or
        right_hand, as in COCO-WholeBody's evaluation.
        """
        return tuple(map(_part, self.keypoints))

    @cached_property
    def body(self) -> tuple[int, ...]:
        """The keypoints without those of faces and hands; all of a skeleton of only these."""
        main = [i for i, part in enumerate(self.parts) if part in ("body", "foot")]
        wrists = all("wrist" in self.keypoints[i] for i in main)
        return tuple(range(len(self)) if wrists else main)

    @cached_property
    def fingers(self) -> tuple[int | None, ...]:
        """(k,) the finger of each keypoint, by its name: 0 (thumb) to 4, None for others."""
        return tuple(_finger(_sided(name)) for name in self.keypoints)

    @cached_property
    def lower_body(self) -> tuple[int, ...]:
        """The keypoints outside `upper_body`; empty if no halves are defined."""
        if not self.upper_body:
            return ()
        return tuple(i for i in range(len(self)) if i not in self.upper_body)

    def subset(self, chosen: Sequence[int]) -> "Skeleton":
        """The skeleton of the `chosen` keypoints, in this order, and what is between them."""
        place = {index: new for new, index in enumerate(chosen)}

        def within(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
            return tuple((place[a], place[b]) for a, b in pairs if a in place and b in place)

        return replace(
            self,
            keypoints=tuple(self.keypoints[i] for i in chosen),
            flip_pairs=within(self.flip_pairs),
            limbs=within(self.limbs),
            sigmas=tuple(self.sigmas[i] for i in chosen),
            weights=tuple(self.weights[i] for i in chosen),
            upper_body=tuple(place[i] for i in self.upper_body if i in place),
            colors=tuple(self.colors[i] for i in chosen) if self.colors else (),
        )

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
        default = set(self.sigmas) == {DEFAULT_SIGMA}
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
            # Elsewhere the constants tell it, also in files that do not have this key.
            **({"has_sigmas": True} if self.has_sigmas and default else {}),
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
            has_sigmas=bool(data.get("has_sigmas", False)),
        )


def _pairs(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in pairs)


# A name as words: camel case (LEye, earL), numbers (L1) and separators (l-eye, eye.r) part them.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\dA-Za-z_]+")
# Words that are a side, and those that are one within a word too (frontleft, 左眼).
_SIDES = {"l": "L", "r": "R", "lt": "L", "rt": "R", "lft": "L", "rgt": "R"}
_WITHIN = re.compile("left|right|左|右")
_WITHIN_SIDES = {"left": "L", "right": "R", "左": "L", "右": "R"}
_OTHER = {"L": "R", "R": "L"}
# A first letter of a word (lhip, Lshoulder) is a side where so much follows, or in several pairs
# (LF, RF, LH, RH): one short pair may be chance, as leg and reg are.
_MIN_REST = 3


def guess_flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices, left first, whose names differ only by their side: a guess, to be checked.

    A side is a word (left, L, 左 ...), however words are parted, or else the first letter of one.
    Where a name has several, such as left_eye_right_corner, all change, or else one of them.
    """
    words = [_sided(name) for name in names]
    pairs = _twins(words, range(len(names)), single=False)
    rest = [i for i in range(len(names)) if i not in {*pairs, *pairs.values()}]
    pairs |= _twins(words, rest, single=True)
    letters = [
        () if _sides(parts) else _initial(name) for name, parts in zip(names, words, strict=True)
    ]
    found = _twins(letters, range(len(names)), single=False)
    short = {i for i in found if len(letters[i][1]) < _MIN_REST}
    pairs |= {i: j for i, j in found.items() if i not in short or len(short) > 1}
    return tuple(sorted(pairs.items()))


def _twins(words: Sequence[tuple[str, ...]], among: Sequence[int], single: bool) -> dict[int, int]:
    """The right twins of left names, by index `among` all: all sides change, or a `single` one."""
    index: dict[tuple[str, ...], int] = {}
    for i in among:
        index.setdefault(words[i], i)
    pairs: dict[int, int] = {}
    for i in among:
        sides = _sides(words[i])
        for changed in [(side,) for side in sides] if single else [sides] * bool(sides):
            twin = tuple(_OTHER[w] if at in changed else w for at, w in enumerate(words[i]))
            j = index.get(twin, i)
            if i != j and words[i][changed[0]] == "L" and not {i, j} & {*pairs, *pairs.values()}:
                pairs[i] = j
    return pairs


def one_sided(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The keypoints whose name says left or right, but which are in no pair."""
    paired = {index for pair in pairs for index in pair}
    return tuple(name for i, name in enumerate(names) if i not in paired and _sides(_sided(name)))


def _sided(name: str) -> tuple[str, ...]:
    """The words of a name in lower case; a side is "L" or "R"."""
    parts: list[str] = []
    for word in _WORD.findall(name):
        word = word.lower()
        if word in _SIDES:
            parts.append(_SIDES[word])
            continue
        end = 0
        for found in _WITHIN.finditer(word):
            parts += [part for part in (word[end : found.start()],) if part]
            parts.append(_WITHIN_SIDES[found[0]])
            end = found.end()
        parts += [word[end:]] if word[end:] else []
    return tuple(parts)


# The word that says which finger, and those that say it together with "finger" only.
_FINGERS = {"thumb": 0, "forefinger": 1, "index": 1, "pinky": 4}
_WITH_FINGER = {"middle": 2, "ring": 3, "little": 4}


def _finger(words: Sequence[str]) -> int | None:
    known = {**_FINGERS, **_WITH_FINGER} if "finger" in words else _FINGERS
    return next((known[word] for word in words if word in known), None)


def _part(name: str) -> str:
    words = _sided(name)
    if "face" in words:
        return "face"
    if "toe" in words or "heel" in words:
        return "foot"
    if "hand" in words or _finger(words) is not None:
        return "left_hand" if "L" in words else "right_hand" if "R" in words else "hand"
    return "body"


def _sides(parts: Sequence[str]) -> tuple[int, ...]:
    """Where sides are among words."""
    return tuple(at for at, part in enumerate(parts) if part in _OTHER)


def _initial(name: str) -> tuple[str, ...]:
    """The words of a name whose first word begins with l or r, which is read as a side."""
    first, *rest = [word.lower() for word in _WORD.findall(name)] or [""]
    if first[:1] not in ("l", "r") or len(first) < 2:
        return ()
    return (first[0].upper(), first[1:], *rest)


def spelled_alike(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether names differ only in spelling, each from the other at its place: `Left Eye`, `LEye`,
    `l_eye` and `eye.left` are `left_eye`.
    """
    return len(names) == len(others) and all(
        bool(_spellings(a) & _spellings(b)) for a, b in zip(names, others, strict=True)
    )


def _spellings(name: str) -> set[tuple[str, ...]]:
    """The words of a name, in one order; two ways where its first letter may mean a side."""
    ways = {tuple(sorted(_sided(name)))}
    if not _sides(_sided(name)) and (initial := _initial(name)):
        ways.add(tuple(sorted(initial)))
    return ways
