"""Skeleton files: a small YAML file that completes the skeleton of a COCO category.

COCO's categories have names and limbs. The file adds what else a training needs, by name:

    flip_pairs: [[left_ear, right_ear], [left_hoof, right_hoof]]   # left first
    limbs: [[nose, left_ear], [nose, right_ear]]
    sigmas: {nose: 0.03, left_ear: 0.04, right_ear: 0.04}          # or one number for all
    weights: {left_hoof: 1.5, right_hoof: 1.5}
    upper_body: [nose, left_ear, right_ear]
    colors: {nose: "#5adc78"}

Every key is optional; without it the skeleton stays as it is. The JSON file of keypoints that the
HRNet of WZMIAOMIAO/deep-learning-for-image-processing trains with is read as well. `find_skeleton`
returns what the user names with `--skeleton`: a shipped skeleton, or that of a file.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AliasChoices, ConfigDict, Field, model_validator

from hrpose.data.coco import read_annotations
from hrpose.data.formats.cvat import children
from hrpose.errors import UserError
from hrpose.skeleton import Color, Skeleton, guess_flip_pairs, spelled_alike
from hrpose.skeletons import SHIPPED
from hrpose.yaml_file import Part, load_as

Positive = Annotated[float, Field(gt=0)]
Pairs = tuple[tuple[str, str], ...]

# For keypoints without a color where others have one.
_GRAY: Color = (190, 190, 190)


# Keys of the file of that repository: limbs, weights of keypoints and both halves of the body, by
# number. Only limbs are counted from 1, as in COCO.
_MOST_OF_NUMBERED = 100_000  # bytes, of hundreds of keypoints
_BY_NUMBER = ("skeleton", "flip_pairs", "kps_weights", "upper_body_ids", "lower_body_ids")


class SkeletonFile(Part):
    """See the module. `keypoints`, where given, must be the annotations' in their order."""

    # A keypoint may be called 1.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str | None = None
    keypoints: tuple[str, ...] | None = None
    flip_pairs: Pairs | None = None
    limbs: Pairs | None = None
    sigmas: Positive | dict[str, Positive] | None = None
    weights: Positive | dict[str, Positive] | None = None
    upper_body: tuple[str, ...] | None = None
    # Older files spell it `colours`.
    colors: dict[str, Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] | None = Field(
        None, validation_alias=AliasChoices("colors", "colours")
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, document: Any) -> Any:
        """The file of the repository in the form of this one."""
        if not isinstance(document, dict) or "kps_weights" not in document:
            return document
        names = document.get("keypoints")
        if not isinstance(names, list):
            raise ValueError("keypoints: expected their names, which the other keys count")

        def name(number: Any, first: int = 0) -> Any:
            if type(number) is not int or not 0 <= number - first < len(names):
                raise ValueError(
                    f"expected numbers of keypoints from {first} to {len(names) - 1 + first}, "
                    f"found {number!r}"
                )
            return names[number - first]

        def pairs(key: str, first: int) -> list[list[Any]]:
            return [[name(number, first) for number in pair] for pair in document.get(key, ())]

        weights = document["kps_weights"]
        if not isinstance(weights, list) or len(weights) != len(names):
            raise ValueError(f"kps_weights: expected {len(names)} numbers, one for each keypoint")
        return {
            **{key: value for key, value in document.items() if key not in _BY_NUMBER},
            "limbs": pairs("skeleton", 1),
            "flip_pairs": pairs("flip_pairs", 0),
            "weights": dict(zip(names, weights, strict=True)),
            "upper_body": [name(number) for number in document.get("upper_body_ids", ())],
        }


def complete_skeleton(found: Skeleton, path: Path) -> Skeleton:
    """The skeleton of annotations, completed by the file at `path`. Raises UserError."""
    file = load_as(path, (), SkeletonFile)
    if file.keypoints is not None and not spelled_alike(file.keypoints, found.keypoints):
        raise UserError(
            f"{path}: keypoints: expected those of the annotations "
            f"({', '.join(found.keypoints)}), found {', '.join(file.keypoints)}",
            code="keypoints-differ",
        )
    index = {name: i for i, name in enumerate(found.keypoints)}

    def at(key: str, name: str) -> int:
        alike = (i for known, i in index.items() if spelled_alike([name], [known]))
        if name not in index and (i := next(alike, None)) is not None:
            return i
        if name not in index:
            known = ", ".join(found.keypoints)
            raise UserError(
                f"{path}: {key}: expected keypoints ({known}), found {name}",
                code="keypoints-differ",
            )
        return index[name]

    def pairs(key: str, named: Pairs) -> tuple[tuple[int, int], ...]:
        return tuple((at(key, a), at(key, b)) for a, b in named)

    def numbers(
        key: str, given: float | dict[str, float], old: tuple[float, ...]
    ) -> tuple[float, ...]:
        if not isinstance(given, dict):
            return (given,) * len(old)
        by_index = {at(key, name): value for name, value in given.items()}
        return tuple(by_index.get(i, value) for i, value in enumerate(old))

    def colors(key: str, given: dict[str, str]) -> tuple[Color, ...]:
        by_index = {at(key, name): _rgb(text) for name, text in given.items()}
        old = found.colors or (_GRAY,) * len(found)
        return tuple(by_index.get(i, color) for i, color in enumerate(old))

    read: dict[str, Callable[[Any], Any]] = {
        "name": str,
        "flip_pairs": lambda given: pairs("flip_pairs", given),
        "limbs": lambda given: pairs("limbs", given),
        "sigmas": lambda given: numbers("sigmas", given, found.sigmas),
        "weights": lambda given: numbers("weights", given, found.weights),
        "upper_body": lambda given: tuple(at("upper_body", name) for name in given),
        "colors": lambda given: colors("colors", given),
    }
    given = {key: getattr(file, key) for key in read}
    parts = {key: read[key](value) for key, value in given.items() if value is not None}
    if "sigmas" in parts:
        parts["has_sigmas"] = True
    try:
        return replace(found, **parts)
    except ValueError as error:
        raise UserError(f"{path}: {error}", code="skeleton-invalid") from error


def to_yaml(skeleton: Skeleton) -> str:
    """The file of a skeleton, which `complete_skeleton` reads."""
    names = skeleton.keypoints

    def named(pairs: tuple[tuple[int, int], ...]) -> list[list[str]]:
        return [[names[a], names[b]] for a, b in pairs]

    parts: dict[str, Any] = {
        "name": skeleton.name,
        "keypoints": list(names),
        "flip_pairs": named(skeleton.flip_pairs),
        "limbs": named(skeleton.limbs),
    }
    if skeleton.has_sigmas:
        parts["sigmas"] = dict(zip(names, skeleton.sigmas, strict=True))
    if set(skeleton.weights) != {1.0}:
        parts["weights"] = dict(zip(names, skeleton.weights, strict=True))
    parts["upper_body"] = [names[i] for i in skeleton.upper_body]
    if skeleton.colors:
        colors = ("#{:02x}{:02x}{:02x}".format(*color) for color in skeleton.colors)
        parts["colors"] = dict(zip(names, colors, strict=True))
    written: str = yaml.safe_dump(
        parts, sort_keys=False, allow_unicode=True, default_flow_style=None, width=85
    )
    return written.rstrip() + "\n"


def _rgb(text: str) -> Color:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def find_skeleton(name: str) -> Skeleton:
    """A shipped skeleton by name, or that of a file: COCO, YAML, or a labeling setup.

    Raises UserError where it is none of them.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"--skeleton {name}: expected {', '.join(SHIPPED)}, or a file "
            "(YAML, COCO JSON, Label Studio's XML), found no such file",
            code="skeleton-unknown",
        )
    if path.name.endswith((".json", ".json.gz")) and not _numbered(path):
        return read_annotations(path).skeleton
    if path.suffix == ".xml":
        return _of_label_studio(path)
    file = load_as(path, (), SkeletonFile)
    if not file.keypoints:
        raise UserError(
            f"{path}: expected 'keypoints', the names of the keypoints, found none",
            code="skeleton-invalid",
        )
    return complete_skeleton(_plain(path, file.name or "person", file.keypoints), path)


def _numbered(path: Path) -> bool:
    """Whether a JSON file is one of keypoints by number, not of annotations."""
    with path.open("rb") as file:
        return b'"kps_weights"' in file.read(_MOST_OF_NUMBERED)


def _of_label_studio(path: Path) -> Skeleton:
    """The labels of the keypoints in a labeling setup of Label Studio."""
    parts = [part for top in children(path, "View") for part in top.iter("KeyPointLabels")]
    names = [label.get("value", "") for part in parts for label in part.iter("Label")]
    if not names:
        raise UserError(
            f"{path}: expected <KeyPointLabels> with <Label value=...>, found none",
            code="skeleton-invalid",
        )
    return _plain(path, "person", tuple(names))


def _plain(path: Path, name: str, keypoints: tuple[str, ...]) -> Skeleton:
    try:
        return Skeleton(name, keypoints, flip_pairs=guess_flip_pairs(keypoints))
    except ValueError as error:
        raise UserError(f"{path}: {error}", code="skeleton-invalid") from error
