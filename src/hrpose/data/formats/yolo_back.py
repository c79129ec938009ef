"""YOLO-pose: data.yaml, and a text of labels beside each picture, as Ultralytics trains on."""

import json
from pathlib import PurePosixPath

from hrpose.data.formats.people import Person, PoseSet
from hrpose.data.formats.to_coco import box_of_joints
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton

_DIGITS = 6


def files(sets: dict[str, PoseSet]) -> dict[str, str]:
    """data.yaml and labels/NAME/... for the sets by their names; the skeleton is one.

    Pictures belong into images/NAME/.... Raises UserError where the sets differ in their joints, or
    two pictures would have the same labels.
    """
    skeletons = {found.skeleton.keypoints: found.skeleton for found in sets.values()}
    if len(skeletons) > 1:
        counts = " and ".join(str(len(names)) for names in skeletons)
        raise UserError(f"expected sets of the same joints, found {counts} different ones")
    (skeleton,) = skeletons.values()
    written = {"data.yaml": _yaml(list(sets), skeleton)}
    for subset, found in sets.items():
        for picture in found.pictures:
            name = str(PurePosixPath("labels", subset, picture.name).with_suffix(".txt"))
            if name in written:
                raise UserError(
                    f"{picture.name}: expected pictures whose names differ in more than their "
                    "ending, as labels are found by the name; rename it"
                )
            size = picture.size_wh or (1, 1)
            lines = [_line(person, skeleton, size) for person in picture.people]
            written[name] = "".join(f"{line}\n" for line in lines)
    return written


def _line(person: Person, skeleton: Skeleton, size: tuple[int, int]) -> str:
    x, y, w, h = person.box or box_of_joints(person.joints.values(), size)
    # Ultralytics refuses what is outside the picture.
    left, right = (min(max(v / size[0], 0.0), 1.0) for v in (x, x + w))
    top, bottom = (min(max(v / size[1], 0.0), 1.0) for v in (y, y + h))
    values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    words = ["0", *(_share(value) for value in values)]
    for name in skeleton.keypoints:
        x, y, visibility = person.joints.get(name, (0.0, 0.0, 0))
        if _is_outside(x, y, size):
            x, y, visibility = 0.0, 0.0, 0
        words += [_share(x / size[0]), _share(y / size[1]), str(visibility)]
    return " ".join(words)


def joints_left_out(found: PoseSet) -> int:
    """How many labelled joints lie outside their picture, and are written as not labelled."""
    return sum(
        _is_outside(x, y, picture.size_wh or (1, 1))
        for picture in found.pictures
        for person in picture.people
        for x, y, _ in person.joints.values()
    )


def _is_outside(x: float, y: float, size: tuple[int, int]) -> bool:
    return not (0 <= x <= size[0] and 0 <= y <= size[1])


def _share(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") or "0"


def _yaml(subsets: list[str], skeleton: Skeleton) -> str:
    label = skeleton.category or skeleton.name
    # Ultralytics asks for both; JSON is YAML.
    places = {"train": subsets[0], "val": subsets[-1]}
    lines = [f"{key}: images/{subset}" for key, subset in places.items()]
    lines += [
        f"kpt_shape: [{len(skeleton)}, 3]",
        f"flip_idx: {json.dumps(skeleton.flip_permutation.tolist())}",
        "names:",
        f"  0: {json.dumps(label)}",
        "kpt_names:",
        f"  0: {json.dumps(list(skeleton.keypoints))}",
        "",
    ]
    return "\n".join(lines)
