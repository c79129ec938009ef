"""Several data sets merged into one: new ids, the images of each below a folder of its own.

    OUT/annotations.json           file names such as coco-mini/000000000785.jpg
    OUT/images/coco-mini -> the images of the first set, or a copy
    OUT/images/more      -> of the second

An image without a `source` gets the name of its set. Sets with the same images' folder share it,
and an image that both have appears once, with the persons of both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.dataset_folder import ImageSet, must_be_new, need_images, write_folder
from hrpose.data.editing import Keypoints
from hrpose.data.formats.pose_set import file_name
from hrpose.data.images import ImageFiles
from hrpose.data.rules import Entry, printable
from hrpose.errors import UserError
from hrpose.skeleton import Color, Skeleton, guess_flip_pairs, spelled_alike
from hrpose.skeletons import SHIPPED


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written; `sets` are the name, persons and images of each."""

    skeleton: Skeleton
    sets: tuple[tuple[str, int, int], ...]
    images: int
    persons: int
    shared: int


def merge(
    sources: Sequence[tuple[Path | CocoAnnotations, Path | None]],
    out: Path,
    keypoints: Keypoints = Keypoints.same,
    renamed: Mapping[str, str] | None = None,
    copy: bool = False,
) -> Merged:
    """Merge annotation files, each with its images, into the new folder `out`.

    `renamed` gives keypoints another name before they are compared. Raises UserError where the
    keypoints differ and must be the same, or an image is missing.
    """
    must_be_new(out)
    files = [read_annotations(path) for path, _ in sources]
    image_files = [
        need_images(file.path, images) for file, (_, images) in zip(files, sources, strict=True)
    ]
    names = [_keypoints_of(file, renamed or {}) for file in files]
    names = [_spelled_as(names[0], own) for own in names]
    skeleton = _skeleton(files, names, keypoints)
    prefixes = _prefixes(image_files)
    images: dict[str, Entry] = {}
    annotations: list[Entry] = []
    counts = []
    shared = 0
    for file, own, prefix in zip(files, names, prefixes, strict=True):
        ids: dict[int, int] = {}
        for image in file.images:
            name = f"{prefix}/{image['file_name']}"
            entry = {**image, "id": len(images) + 1, "file_name": name}
            entry["source"] = image.get("source") or prefix
            old = images.setdefault(name, entry)
            shared += old is not entry
            if (old["width"], old["height"]) != (image["width"], image["height"]):
                raise UserError(
                    f"{file.path}: image {image['id']}: expected the size that the other set "
                    f"gives {printable(name)}, {old['width']} x {old['height']}, found "
                    f"{image['width']} x {image['height']}",
                    code="annotations-invalid",
                )
            ids[image["id"]] = old["id"]
        order = [own.index(name) if name in own else -1 for name in skeleton.keypoints]
        for annotation in file.annotations:
            entry = _reordered(annotation, order, len(own))
            entry.update(
                id=len(annotations) + 1, image_id=ids[annotation["image_id"]], category_id=1
            )
            annotations.append(entry)
        counts.append((prefix, len(file.annotations), len(file.images)))
    document = {
        "info": {"description": f"merged by hrpose from {', '.join(dict.fromkeys(prefixes))}"},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [skeleton.to_coco_category()],
    }
    texts = {"annotations.json": json.dumps(document)}
    if skeleton not in SHIPPED.values():
        from hrpose.data.skeleton_file import to_yaml

        texts["skeleton.yaml"] = to_yaml(skeleton)
    write_folder(out, texts, _image_sets(image_files, prefixes, files, copy), copy)
    return Merged(skeleton, tuple(counts), len(images), len(annotations), shared)


def _keypoints_of(file: CocoAnnotations, renamed: Mapping[str, str]) -> list[str]:
    names = [renamed.get(name, name) for name in file.skeleton.keypoints]
    if len(set(names)) != len(names):
        raise UserError(
            f"{file.path}: expected keypoints of different names after --rename",
            code="option-invalid",
        )
    return names


def _spelled_as(first: Sequence[str], own: list[str]) -> list[str]:
    """The names of a set, those that differ only in spelling as in the first set."""
    known = set(first)
    alike = [
        name if name in known else next((n for n in first if spelled_alike([n], [name])), name)
        for name in own
    ]
    return alike if len(set(alike)) == len(own) else own


def _skeleton(
    files: Sequence[CocoAnnotations], names: Sequence[Sequence[str]], keypoints: Keypoints
) -> Skeleton:
    """The skeleton of the merged set, with all that the sets' own skeletons have."""
    first = names[0]
    for file, own in zip(files[1:], names[1:], strict=True):
        if keypoints is Keypoints.same and set(own) != set(first):
            alone = ", ".join(name for name in first if name not in own) or "nothing"
            other = ", ".join(name for name in own if name not in first) or "nothing"
            raise UserError(
                f"{file.path}: expected the {len(first)} keypoints of {files[0].path}, found "
                f"{len(own)}; only there: {printable(alone)}; only here: {printable(other)}; "
                "use --keypoints common or --keypoints all, and --rename OLD=NEW for other names",
                code="keypoints-differ",
            )
    if keypoints is Keypoints.all:
        chosen = list(dict.fromkeys(name for own in names for name in own))
    else:
        chosen = [name for name in first if all(name in own for own in names)]
    if not chosen:
        raise UserError(
            "expected keypoints that all the sets have, found none; use --keypoints all",
            code="keypoints-differ",
        )
    for shipped in SHIPPED.values():
        if list(shipped.keypoints) == chosen:
            return shipped
    limbs: dict[tuple[int, int], None] = {}
    mirrored: dict[str, str] = {}
    sigmas: dict[str, float] = {}
    weights: dict[str, float] = {}
    colors: dict[str, Color] = {}
    upper: set[str] = set()
    for file, own in zip(files, names, strict=True):
        known = file.skeleton
        for a, b in known.limbs:
            if own[a] in chosen and own[b] in chosen:
                pair = (chosen.index(own[a]), chosen.index(own[b]))
                if pair[::-1] not in limbs:
                    limbs[pair] = None
        for left, right in ((own[a], own[b]) for a, b in known.flip_pairs):
            if {left, right} <= set(chosen) - set(mirrored) - set(mirrored.values()):
                mirrored[left] = right
        upper.update(own[i] for i in known.upper_body)
        # Of values that several sets have, the first counts.
        if known.has_sigmas:
            sigmas = dict(zip(own, known.sigmas, strict=True)) | sigmas
        if set(known.weights) != {1.0}:
            weights = dict(zip(own, known.weights, strict=True)) | weights
        if known.colors:
            colors = dict(zip(own, known.colors, strict=True)) | colors
    skeleton = files[0].skeleton
    return Skeleton(
        name=skeleton.category or skeleton.name,
        keypoints=tuple(chosen),
        flip_pairs=_flip_pairs(chosen, mirrored),
        limbs=tuple(limbs),
        upper_body=tuple(i for i, name in enumerate(chosen) if name in upper),
        sigmas=tuple(sigmas[name] for name in chosen) if all(n in sigmas for n in chosen) else (),
        weights=tuple(weights.get(name, 1.0) for name in chosen),
        colors=tuple(colors[name] for name in chosen) if all(n in colors for n in chosen) else (),
    )


def _flip_pairs(chosen: Sequence[str], mirrored: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    """The pairs of the sets, and those guessed from the names of the other keypoints."""
    pairs = [(chosen.index(left), chosen.index(right)) for left, right in mirrored.items()]
    paired = {i for pair in pairs for i in pair}
    return (*pairs, *(pair for pair in guess_flip_pairs(chosen) if not paired & set(pair)))


def _prefixes(sources: Sequence[ImageFiles]) -> list[str]:
    """A folder name for the images of each set; sets with the same images share it."""
    used: dict[str, Path] = {}
    prefixes = []
    for path in (source.path.resolve() for source in sources):
        # animals/images are the images of animals.
        base = file_name(path.parent.name if path.stem == "images" else path.stem)
        name, number = base, 1
        while used.get(name, path) != path:
            number += 1
            name = f"{base}-{number}"
        used[name] = path
        prefixes.append(name)
    return prefixes


def _image_sets(
    image_files: Sequence[ImageFiles],
    prefixes: Sequence[str],
    files: Sequence[CocoAnnotations],
    copy: bool,
) -> list[ImageSet]:
    sets: dict[str, ImageSet] = {}
    for images, prefix, file in zip(image_files, prefixes, files, strict=True):
        if not copy and not images.path.is_dir():
            raise UserError(
                f"{images.path}: images in a zip file cannot be linked; use --copy",
                code="option-conflict",
            )
        names = tuple(image["file_name"] for image in file.images)
        missing = next((name for name in names if name not in images), None)
        if missing is not None:
            raise UserError(
                f"{file.path}: expected {printable(missing)} in {images.path}, found none; "
                "use --images, once for each file",
                code="images-missing",
            )
        old = sets[prefix].names if prefix in sets else ()
        sets[prefix] = ImageSet(f"images/{prefix}", images, tuple(dict.fromkeys(old + names)))
    return list(sets.values())


def _reordered(annotation: Entry, order: Sequence[int], k: int) -> Entry:
    """The annotation with its keypoints in another order, where -1 stands for a missing one."""
    if list(order) == list(range(k)):
        return dict(annotation)
    # These entries of MPII are for its own keypoints.
    entry = {key: v for key, v in annotation.items() if key not in ("mpii", "pckh_keypoints")}
    values = annotation.get("keypoints")
    if values:
        keypoints: list[float] = []
        for i in order:
            keypoints += values[3 * i : 3 * i + 3] if i >= 0 else [0, 0, 0]
        entry["keypoints"] = keypoints
        entry["num_keypoints"] = sum(v > 0 for v in keypoints[2::3])
    return entry
