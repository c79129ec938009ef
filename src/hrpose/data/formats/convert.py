"""Annotations of other tools and data sets to COCO keypoints, and COCO keypoints to other tools.

Every conversion goes through COCO keypoints JSON. Boxes that the source does not have are made from
the keypoints and marked by `bbox_guessed`.
"""

import json
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from hrpose.data.coco import read_annotations
from hrpose.data.dataset_folder import ImageSet, must_be_new, write_folder
from hrpose.data.formats import SOURCES, TARGETS, yolo
from hrpose.data.formats.pose_set import (
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    box_of_keypoints,
    file_name,
    left_out,
    pose_set,
)
from hrpose.data.images import ImageFiles, check_shape
from hrpose.data.persons import group_by_image
from hrpose.data.rules import Entry, printable
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from hrpose.skeletons import SHIPPED

_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written: COCO `documents` and other `files`, by name.

    `left_out` counts labeled keypoints that the format cannot hold.
    """

    found: PoseSet
    documents: dict[str, Entry]
    files: tuple[str, ...]
    left_out: int = 0


def to_coco(
    name: str, source: Path, out: Path, options: ReadOptions, copy: bool = False
) -> Converted:
    """Convert a source of the format `name` of `SOURCES` to the new folder `out`.

    A file of COCO keypoints for each subset, the images linked or copied, and, where the skeleton
    is no shipped one, `skeleton.yaml` with what is known about it. Raises UserError, naming file
    and entry, before anything is written.
    """
    must_be_new(out)
    found = SOURCES[name].read(source, options)
    if options.scale_to_images and found.files is not None:
        images = tuple(_scaled(image, found.files) for image in found.images)
        count = sum(a is not b for a, b in zip(images, found.images, strict=True))
        note = f"labels of {count:,} of {len(images):,} images were scaled to the images' sizes"
        found = replace(found, images=images, notes=(*found.notes, note))
    written = documents(found)
    files = {f"{name}.json": json.dumps(document) for name, document in written.items()}
    if found.skeleton not in SHIPPED.values():
        from hrpose.data.skeleton_file import to_yaml

        files["skeleton.yaml"] = to_yaml(found.skeleton)
    _write(out, files, {"images": found}, copy or found.copied)
    return Converted(found, written, tuple(files))


def from_coco_to(
    name: str, source: Path, out: Path, options: ReadOptions, prefix: str, copy: bool = False
) -> Converted:
    """Convert COCO keypoints to the format `name` of `TARGETS` in the new folder `out`."""
    must_be_new(out)
    found = sized(read(source, options))
    files = TARGETS[name].files(found, prefix)
    _write(out, files, {"images": found} if copy else {}, copy)
    return Converted(found, {}, tuple(files))


def from_coco_to_yolo(
    sources: dict[str, tuple[Path, ReadOptions]], out: Path, copy: bool = False
) -> Converted:
    """Convert COCO keypoints to YOLO-pose; `sources` are the subsets by name, `train` first."""
    must_be_new(out)
    sets = {name: sized(read(path, options)) for name, (path, options) in sources.items()}
    files = yolo.files(sets)
    _write(out, files, {f"images/{name}": found for name, found in sets.items()}, copy, each=True)
    left_out = sum(yolo.keypoints_left_out(found) for found in sets.values())
    return Converted(next(iter(sets.values())), {}, tuple(files), left_out)


def _write(
    out: Path, files: dict[str, str], sets: dict[str, PoseSet], copy: bool, each: bool = False
) -> None:
    images = []
    for folder, found in sets.items():
        names = tuple(image.name for image in found.images)
        if found.files is not None and (copy or found.images_found):
            images.append(ImageSet(folder, found.files, names, each))
    write_folder(out, files, images, copy)


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read COCO keypoints. Crowds are left out; so are entries that training refuses, and counted.

    Raises UserError where nothing is left.
    """
    annotations = read_annotations(
        source,
        lenient=True,
        category=options.category,
        merge_categories=options.merge_categories,
        sized=False,
    )
    skeleton, instances = annotations.skeleton, annotations.instances(crowds=False)
    annotations.refuse_nothing()
    files = options.images_for(source)
    crowds = len(annotations.annotations) - len(instances.entries)
    persons = [
        _person(entry, skeleton, f"{source}: annotation {entry['id']}", options.new_ids)
        for entry in instances.entries
    ]
    rows = group_by_image(instances.columns["image_index"])
    sizes = annotations.image_columns["image_wh"].tolist()
    # A file that several images name is one image, with the persons of all of them.
    images: dict[str, LabeledImage] = {}
    for image, (entry, (width, height)) in enumerate(zip(annotations.images, sizes, strict=True)):
        own = tuple(persons[row] for row in rows.get(image, ()))
        name = entry["file_name"]
        if name in images:
            images[name] = replace(images[name], persons=images[name].persons + own)
            continue
        images[name] = LabeledImage(
            name,
            own,
            (width, height) if width and height else None,
            number=None if options.new_ids else entry["id"],
            source=str(entry.get("source", "")),
            video=str(entry.get("video", "")),
        )
    unsized = sum(not (width and height) for width, height in sizes)
    notes = [
        *map(str, annotations.notes),
        *annotations.refused(),
        *left_out({"crowds": crowds}),
        *([f"images without a size, read from their files: {unsized:,}"] if unsized else []),
    ]
    return pose_set(source, list(images.values()), options, files, skeleton, notes=notes)


def _scaled(image: LabeledImage, files: ImageFiles) -> LabeledImage:
    """The image with its labels scaled to the size of its file, where that has another one.

    Raises UserError where the shape differs too.
    """
    if image.size_wh is None or image.name not in files:
        return image
    size = files.size(image.name)
    if size == image.size_wh:
        return image
    check_shape(image.name, image.size_wh, size)
    x, y = size[0] / image.size_wh[0], size[1] / image.size_wh[1]
    persons = tuple(
        replace(
            person,
            keypoints={
                name: (x * at[0], y * at[1], at[2]) for name, at in person.keypoints.items()
            },
            box=person.box
            and (x * person.box[0], y * person.box[1], x * person.box[2], y * person.box[3]),
            area=person.area and x * y * person.area,
        )
        for person in image.persons
    )
    return replace(image, size_wh=size, persons=persons)


def _person(annotation: Entry, skeleton: Skeleton, where: str, new_ids: bool) -> Person:
    values = annotation.get("keypoints") or [0] * (3 * len(skeleton))
    keypoints = {
        name: (values[3 * i], values[3 * i + 1], int(values[3 * i + 2]))
        for i, name in enumerate(skeleton.keypoints)
        if values[3 * i + 2]
    }
    x, y, w, h = annotation["bbox"]
    score, track = annotation.get("score"), annotation.get("track_id")
    guessed = annotation.get("bbox_guessed") is True
    return Person(
        keypoints,
        None if guessed or w <= 0 or h <= 0 else (x, y, w, h),
        where,
        area=None if guessed else annotation.get("area"),
        score=float(score) if isinstance(score, int | float) else None,
        track=track if isinstance(track, int) else None,
        number=None if new_ids else annotation["id"],
    )


def documents(found: PoseSet) -> dict[str, Entry]:
    """The COCO document of each subset of the source; 'annotations' where it has none.

    Sizes that the source does not have are read from the images' headers. Raises UserError where
    an image is missing.
    """
    subsets: dict[str, list[LabeledImage]] = {}
    for image in found.images:
        subsets.setdefault(file_name(image.subset), []).append(image)
    # Those of the source are kept; without any they count from 1, across all subsets.
    image_ids, annotation_ids = count(1), count(1)
    result: dict[str, Entry] = {}
    for name, members in subsets.items():
        images, annotations = [], []
        for image in members:
            size = image.size_wh or _size(image.name, found)
            image_id = next(image_ids) if image.number is None else image.number
            images.append(_image_entry(image_id, image, size))
            for person in image.persons:
                number = next(annotation_ids) if person.number is None else person.number
                annotations.append(_annotation(number, image_id, person, found.skeleton, size))
        result[name] = {
            "info": {"description": "converted by hrpose"},
            "images": images,
            "annotations": annotations,
            "categories": [found.skeleton.to_coco_category()],
        }
    return result


def sized(found: PoseSet) -> PoseSet:
    """The same, with the sizes of images with persons; of the others they are not needed.

    Raises UserError where an image is missing whose size is not in the annotations.
    """
    images = tuple(
        image
        if image.size_wh or not image.persons
        else replace(image, size_wh=_size(image.name, found))
        for image in found.images
    )
    return replace(found, images=images)


def _size(name: str, found: PoseSet) -> tuple[int, int]:
    if found.files is None or name not in found.files:
        where = f"{found.files.path}: " if found.files is not None else ""
        raise UserError(
            f"{where}expected the image {printable(name)}, as its size is not in the annotations, "
            "found none; name the folder with --images",
            code="images-missing",
        )
    return found.files.size(name)


def _image_entry(image_id: int, image: LabeledImage, size: tuple[int, int]) -> Entry:
    entry: Entry = {"id": image_id, "file_name": image.name, "width": size[0], "height": size[1]}
    more = {"video": image.video, "source": image.source}
    return entry | {key: value for key, value in more.items() if value}


def _annotation(
    annotation_id: int, image_id: int, person: Person, skeleton: Skeleton, size: tuple[int, int]
) -> Entry:
    keypoints: list[float] = []
    for name in skeleton.keypoints:
        x, y, visibility = person.keypoints.get(name, (0, 0, 0))
        keypoints += [round(x, _DIGITS), round(y, _DIGITS), visibility]
    box = person.box or box_of_keypoints(person.keypoints.values(), size)
    entry: Entry = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": len(person.keypoints),
        "keypoints": keypoints,
        "bbox": [round(value, _DIGITS) for value in box],
        "area": round(box[2] * box[3] if person.area is None else person.area, _DIGITS),
    }
    more = {
        "bbox_guessed": True if person.box is None else None,
        "score": person.score,
        "track_id": person.track,
    }
    return entry | {key: value for key, value in more.items() if value is not None}
