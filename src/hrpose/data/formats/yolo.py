"""YOLO-pose, as Ultralytics has it: `data.yaml`, `images/`, and `labels/` with a file an image.

    path: ../animals             # the root; else the folder of data.yaml
    train: images/train          # a folder, a text file of paths, or a list of both
    val: images/val
    kpt_shape: [9, 3]            # 2: x and y; 3: with a visibility
    flip_idx: [0, 2, 1, ...]
    names: {0: animal}
    kpt_names: {0: [nose, ...]}  # where the keypoints have names

A label is a line `class cx cy w h x y [v] x y [v] ...`, relative to the image's width and height. A
keypoint is not labeled where v is 0, or, without v, where both coordinates are 0 or one is below 0.
A line that ends after the box is a person without labeled keypoints. Keypoints without names are
COCO's where there are 17 that mirror as COCO's do, else 1, 2, 3 ...

Absent folders of val and test are left out. Where a path leads elsewhere (an absolute one of
another machine, ../train/images of Roboflow), its end is searched below the root. Labels are in the
folder `labels` beside `images`; where there is no folder of this name, beside the images.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.data.formats.pose_set import (
    Box,
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    box_of_keypoints,
    image_name,
    invalid,
    json_list,
    json_object,
    keypoint_name,
    left_out,
    number,
    pose_set,
    read_text,
    unknown_category,
    whole_number,
)
from hrpose.data.images import ImageFiles, stays_inside
from hrpose.data.rules import printable
from hrpose.errors import UserError
from hrpose.file_kinds import SUFFIXES
from hrpose.skeleton import Skeleton, guess_flip_pairs
from hrpose.skeletons import COCO_17, SHIPPED

_DIGITS = 6
_SUBSETS = ("train", "val", "test")
_MAX_KEYPOINTS = 1000


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read a data set by its `data.yaml`. Raises UserError, naming the file and the line."""
    from hrpose.yaml_file import read_yaml

    config = json_object(read_yaml(source), str(source))
    root = _root(source, config.get("path"))
    images = ImageFiles(root)
    k, values = _shape(source, config.get("kpt_shape"))
    classes = _named(config.get("names"), f"{source}: names")
    chosen, category = _category(source, classes, options.category)
    skeleton = _skeleton(source, config, options, k, category, chosen)
    labeled: list[LabeledImage] = []
    notes, lost = _hints(source, skeleton), Counter[str]()
    # Sets without images for validation name those of train once more.
    parts = {
        str(config[name]): (name, config[name]) for name in reversed(_SUBSETS) if config.get(name)
    }
    if not parts:
        raise invalid(f"{source}: train", "a folder of images", None)
    for subset, folders in sorted(parts.values(), key=lambda part: _SUBSETS.index(part[0])):
        for folder in folders if isinstance(folders, list) else [folders]:
            place = _place(source, root, subset, folder)
            if place is None:
                notes.append(f"left out: {subset}: {printable(str(folder))}, which is absent")
                continue
            for name in _names(root, place):
                label = root / _label_of(name)
                size = images.size(name)
                # An image without a file of labels has no persons.
                persons = _persons(label, skeleton, values, size, len(classes), chosen, lost)
                labeled.append(
                    LabeledImage(name, tuple(persons) if label.is_file() else (), size, subset)
                )
    if not labeled:
        found = "; ".join(notes) or "none in the folders"
        raise invalid(f"{source}: {', '.join(name for name, _ in parts.values())}", "images", found)
    return pose_set(source, labeled, options, images, skeleton, notes=[*notes, *left_out(lost)])


def _hints(source: Path, skeleton: Skeleton) -> list[str]:
    """What the user should know about the keypoints."""
    if skeleton.keypoints[0] != "1":
        return []
    return [
        f"{source.name} has no names of keypoints; name them with --skeleton, so that left and "
        "right are known"
    ]


def _root(source: Path, path: object) -> Path:
    """The folder that everything is in: `path`, or that of data.yaml where there is no such one."""
    if path is not None and not isinstance(path, str):
        raise invalid(f"{source}: path", "a folder", path)
    # Ultralytics looks for a relative one below its own data folder, which is not known here.
    try:
        root = source.parent / (path or "")
        return root if root.is_dir() else source.parent
    except (OSError, ValueError):  # a name that no folder can have
        return source.parent


def _shape(source: Path, shape: object) -> tuple[int, int]:
    where = f"{source}: kpt_shape"
    if not isinstance(shape, list) or len(shape) != 2:
        raise invalid(where, "[keypoints, 2 or 3], as YOLO-pose has it", shape)
    return whole_number(shape[0], where, 1, _MAX_KEYPOINTS), whole_number(shape[1], where, 2, 3)


def _named(names: object, where: str) -> list[Any]:
    """A list, or a mapping of 0, 1, 2 ..., as a list."""
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        return [names[i] for i in range(len(names))]
    if isinstance(names, list):
        return names
    raise invalid(where, "a list, or a mapping of 0, 1, 2 ...", names)


def _category(source: Path, classes: list[Any], wanted: str | None) -> tuple[int, str]:
    """The class that is converted, as number and name."""
    names = [keypoint_name(str(name), f"{source}: names") for name in classes]
    if wanted is None and len(names) == 1:
        return 0, names[0]
    if wanted not in names:
        keypoints = {name for skeleton in SHIPPED.values() for name in skeleton.keypoints}
        if wanted is None and len(keypoints & set(names)) > len(names) / 2:
            raise UserError(
                f"{source}: names: expected classes, such as 'person', found what seem to be "
                f"keypoints ({printable(', '.join(names))}); put them under 'kpt_names: {{0: "
                "[...]}}', and set kpt_shape to their number",
                code="category-unknown",
            )
        raise unknown_category(f"{source}: names", names)
    return names.index(wanted), wanted


def _skeleton(
    source: Path,
    config: Mapping[str, Any],
    options: ReadOptions,
    k: int,
    category: str,
    chosen: int,
) -> Skeleton:
    flips = json_list(config.get("flip_idx"), f"{source}: flip_idx")
    flips = [whole_number(i, f"{source}: flip_idx", 0, k - 1) for i in flips]
    if flips and (len(flips) != k or any(flips[j] != i for i, j in enumerate(flips))):
        raise invalid(f"{source}: flip_idx", f"{k} indices that are their own inverse", flips)
    if options.skeleton is not None:
        if len(options.skeleton) != k:
            raise UserError(
                f"{source}: kpt_shape: expected the {len(options.skeleton)} keypoints of "
                f"--skeleton, found {k}",
                code="keypoints-differ",
            )
        return options.skeleton
    where = f"{source}: kpt_names"
    if config.get("kpt_names") is not None:
        lists = _named(config["kpt_names"], where)
        own = json_list(lists[min(chosen, len(lists) - 1)] if lists else None, where)
        names = [keypoint_name(name, where) for name in own]
        if len(names) != k or len(set(names)) != k:
            raise invalid(where, f"{k} different names", names)
    elif flips == COCO_17.flip_permutation.tolist():
        return COCO_17
    else:
        names = [str(i + 1) for i in range(k)]
    if tuple(names) == COCO_17.keypoints:
        return COCO_17
    pairs = tuple((i, j) for i, j in enumerate(flips) if i < j)
    return Skeleton(category, tuple(names), flip_pairs=_left_first(names, pairs))


def _left_first(
    names: list[str], pairs: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    """The pairs of flip_idx, the left one first by the names; without pairs those of the names."""
    guessed = set(guess_flip_pairs(names))
    return tuple((j, i) if (j, i) in guessed else (i, j) for i, j in pairs) or tuple(
        sorted(guessed)
    )


def _place(source: Path, root: Path, subset: str, folder: object) -> str | None:
    """The folder of a subset or its list of images, below the root; None where it is absent, which
    `train` may not be.

    Of an absolute path it is the longest end, of two parts at least, that is below the root.
    """
    where = f"{source}: {subset}"
    if not isinstance(folder, str) or not folder.strip() or "\0" in folder:
        raise invalid(where, f"a folder of images below {root}, or a .txt list of them", folder)
    text = folder.strip().replace("\\", "/")
    inside = stays_inside(text)
    parts = [part for part in PurePosixPath(text).parts if part not in ("/", ".", "..")]
    relative = inside or text.startswith("..")
    for start in range(1 if relative else max(len(parts) - 1, 1)):
        name = "/".join(parts[start:])
        if stays_inside(name) and (os.path.isdir(root / name) or _is_list(root / name)):
            return name
    if subset == "train":
        raise invalid(where, f"a folder of images below {root}, or a .txt list of them", folder)
    return None


def _is_list(path: Path) -> bool:
    # Of os, whose functions are false for names that no file can have.
    return path.suffix == ".txt" and os.path.isfile(path)


def _names(root: Path, place: str) -> Iterator[str]:
    """The images of a subset, relative to the root, in a fixed order."""
    if _is_list(root / place):
        for row, line in enumerate(read_text(root / place).splitlines(), 1):
            if line.strip():
                yield image_name(line.strip(), f"{root / place}: line {row}")
    else:
        found = (f"{place}/{below}" for below in ImageFiles(root / place).names())
        yield from (file for file in found if file.lower().endswith(SUFFIXES))


def _label_of(name: str) -> str:
    """images/train/a.jpg has its labels in labels/train/a.txt, others beside them."""
    parts = list(PurePosixPath(name).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return str(PurePosixPath(*parts).with_suffix(".txt"))


def _persons(
    label: Path,
    skeleton: Skeleton,
    values: int,
    size: tuple[int, int],
    classes: int,
    chosen: int,
    lost: Counter[str],
) -> Iterator[Person]:
    expected = 5 + len(skeleton) * values
    w, h = size
    for row, line in enumerate(read_text(label).splitlines(), 1):
        words, where = line.split(), f"{label}: line {row}"
        if not words:
            continue
        if len(words) not in (5, expected):
            raise invalid(
                where,
                f"{expected} numbers: class, box, and {len(skeleton)} keypoints of {values}",
                f"{len(words)} of them",
            )
        kind = whole_number(words[0], f"{where}: class", 0, classes - 1)
        cx, cy, bw, bh = (_relative(word, f"{where}: the box") for word in words[1:5])
        if kind != chosen:
            lost["persons of other classes"] += 1
        else:
            box: Box = ((cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h)
            keypoints = (
                dict(_keypoints(words[5:], skeleton, values, size, where)) if words[5:] else {}
            )
            yield Person(keypoints, box if bw > 0 and bh > 0 else None, where)


def _keypoints(
    words: list[str], skeleton: Skeleton, values: int, size: tuple[int, int], where: str
) -> Iterator[tuple[str, Keypoint]]:
    for index, name in enumerate(skeleton.keypoints):
        x, y, *rest = (
            number(word, f"{where}: {name}") for word in words[index * values :][:values]
        )
        if rest:
            # Some tools write 0 or 1 for visible, others COCO's 0, 1, 2.
            visible = whole_number(rest[0], f"{where}: {name}: visibility", 0, 2)
        else:
            visible = 0 if x == y == 0 or min(x, y) < 0 else 2
        if visible:
            x, y = (_relative(value, f"{where}: {name}") for value in (x, y))
            yield name, (x * size[0], y * size[1], visible)


def _relative(value: float | str, where: str) -> float:
    relative = number(value, where)
    if not -1 <= relative <= 2:
        raise invalid(where, "coordinates relative to the image, from 0 to 1", value)
    return relative


def files(sets: dict[str, PoseSet]) -> dict[str, str]:
    """data.yaml and labels/NAME/... for the sets by their names, all of one skeleton.

    Images belong into images/NAME/... Raises UserError where the sets differ in their keypoints,
    or two images would share a file of labels.
    """
    skeletons = {found.skeleton.keypoints: found.skeleton for found in sets.values()}
    if len(skeletons) > 1:
        counts = " and ".join(str(len(names)) for names in skeletons)
        raise UserError(
            f"expected sets of the same keypoints, found {counts} different ones",
            code="keypoints-differ",
        )
    (skeleton,) = skeletons.values()
    written = {"data.yaml": _yaml(list(sets), skeleton)}
    for subset, found in sets.items():
        for image in found.images:
            name = str(PurePosixPath("labels", subset, image.name).with_suffix(".txt"))
            if name in written:
                raise UserError(
                    f"{image.name}: expected images whose names differ in more than their "
                    "ending, as labels are found by the name; rename it",
                    code="names-collide",
                )
            size = image.size_wh or (1, 1)
            lines = [_line(person, skeleton, size) for person in image.persons]
            written[name] = "".join(f"{line}\n" for line in lines)
    return written


def _line(person: Person, skeleton: Skeleton, size: tuple[int, int]) -> str:
    x, y, w, h = person.box or box_of_keypoints(person.keypoints.values(), size)
    # Ultralytics accepts nothing outside the image.
    left, right = (min(max(v / size[0], 0.0), 1.0) for v in (x, x + w))
    top, bottom = (min(max(v / size[1], 0.0), 1.0) for v in (y, y + h))
    values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    words = ["0", *(_written(value) for value in values)]
    for name in skeleton.keypoints:
        x, y, visibility = person.keypoints.get(name, (0.0, 0.0, 0))
        if _is_outside(x, y, size):
            x, y, visibility = 0.0, 0.0, 0
        words += [_written(x / size[0]), _written(y / size[1]), str(visibility)]
    return " ".join(words)


def keypoints_left_out(found: PoseSet) -> int:
    """How many labeled keypoints are outside their image, and are written as not labeled."""
    return sum(
        _is_outside(x, y, image.size_wh or (1, 1))
        for image in found.images
        for person in image.persons
        for x, y, _ in person.keypoints.values()
    )


def _is_outside(x: float, y: float, size: tuple[int, int]) -> bool:
    return not (0 <= x <= size[0] and 0 <= y <= size[1])


def _written(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") or "0"


def _yaml(subsets: list[str], skeleton: Skeleton) -> str:
    label = skeleton.category or skeleton.name
    # Ultralytics needs both; JSON is YAML.
    folders = {"train": subsets[0], "val": subsets[-1]}
    lines = [f"{key}: images/{subset}" for key, subset in folders.items()]
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
