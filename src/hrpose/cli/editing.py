"""`hrpose data merge`, `split`, `subset`, `stats`, `pack` and `synthetic`: COCO keypoints files."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli import describe, pairs
from hrpose.cli.console import conclude, counted, persons_in, plain_console, progress, say, warn
from hrpose.cli.options import Category, Coco, Copy, ImagesBeside, MergeCategories, NewFolder
from hrpose.data.editing import Keypoints
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.data.coco import CocoAnnotations

Seed = Annotated[int, typer.Option(help="The same seed draws the same images.")]


@describe(
    "hrpose data merge coco.json lsp.json --out both --keypoints common",
    "hrpose data merge coco.json lsp.json --images coco.zip --images lsp --out both",
    images="number of images",
    persons="number of persons",
    sets="an object for each file: `name`, `images`, `persons`",
    shared="number of images that are in several files",
    keypoints="the names of the keypoints, in order",
    files="the file written",
)
def merge(
    annotations: Annotated[list[Path], typer.Argument(help="Two or more COCO keypoints files.")],
    out: NewFolder,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Their images, once for each file; by default images/ beside it."),
    ] = None,
    keypoints: Annotated[
        Keypoints,
        typer.Option(help="Where the skeletons differ: same (an error), common, or all keypoints."),
    ] = Keypoints.same,
    rename: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW: keypoints with other names in other sets.")
    ] = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    copy: Copy = False,
) -> None:
    """Merge data sets into one; each image keeps or gets its `source`."""
    from hrpose.data.coco import read_annotations
    from hrpose.data.editing import merge as merging

    if images and len(images) != len(annotations):
        raise UserError(
            f"--images: expected one for each of the {len(annotations)} files, found {len(images)}",
            code="option-invalid",
        )
    places: list[Path | None] = list(images) if images else [None] * len(annotations)
    files = [
        read_annotations(path, category=category, merge_categories=merge_categories)
        for path in annotations
    ]
    sources = list(zip(files, places, strict=True))
    done = merging.merge(sources, out, keypoints, pairs("--rename", rename), copy)
    report_notes(*files)
    conclude(
        images=done.images,
        persons=done.persons,
        sets=[{"name": name, "images": n, "persons": persons} for name, persons, n in done.sets],
        shared=done.shared,
        keypoints=done.skeleton.keypoints,
        files=[out / "annotations.json"],
    )
    say(f"wrote {out / 'annotations.json'}: {persons_in(done.persons, done.images)}")
    for name, persons, count in done.sets:
        say(f"  {persons_in(persons, count)} of {name}")
    if done.shared:
        say(f"  {counted(done.shared, 'image')} in several sets, with the persons of all")
    say(f"  {counted(len(done.skeleton), 'keypoint')}: {', '.join(done.skeleton.keypoints)}")


@describe(
    "hrpose data split all.json --out parts --parts train=0.8,val=0.2 --group source",
    "hrpose data split all.json --out parts --group-pattern '^(.+)_[0-9]+' --seed 7",
    parts="an object for each part: `name`, `images`, `persons`, `groups`",
    files="the files written",
)
def split(
    annotations: Coco,
    out: NewFolder,
    parts: Annotated[
        str, typer.Option(help="The parts, and their shares of the images.")
    ] = "train=0.8,val=0.2",
    group: Annotated[
        str | None,
        typer.Option(
            help="Keep images with the same value of this field (source, video) together."
        ),
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(help="The same by file names: '^(.+)_[0-9]+' groups the frames of clips."),
    ] = None,
    put: Annotated[
        list[str] | None, typer.Option(help="GROUP=PART: put a group into a part.")
    ] = None,
    seed: Seed = 0,
    images: ImagesBeside = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    copy: Copy = False,
) -> None:
    """Split a data set into train and val, or more parts, by images or by groups of them."""
    from hrpose.data.coco import read_annotations
    from hrpose.data.editing import split as splitting

    file = read_annotations(annotations, category=category, merge_categories=merge_categories)
    done = splitting.split(
        file, out, _shares(parts), group, group_pattern, pairs("--put", put), seed, images, copy
    )
    report_notes(file)
    total = sum(part.images for part in done)
    conclude(
        parts=[
            {"name": p.name, "images": p.images, "persons": p.persons, "groups": p.groups}
            for p in done
        ],
        files=[out / f"{part.name}.json" for part in done],
    )
    for part in done:
        say(
            f"wrote {out / part.name}.json: {persons_in(part.persons, part.images)}, "
            f"{part.images / max(total, 1):.1%} (asked for {part.wanted})"
        )
        if part.groups:
            shown = ", ".join(part.groups[:8])
            more = f" and {len(part.groups) - 8} more" if len(part.groups) > 8 else ""
            say(f"  {counted(len(part.groups), 'group')}: {shown}{more}")
    _say_images(out, annotations, images)


@describe(
    "hrpose data subset all.json --out few --source dogs --min-size 60",
    "hrpose data subset all.json --out few --max-images 100 --seed 7",
    images="number of images",
    persons="number of persons",
    files="the file written",
)
def subset(
    annotations: Coco,
    out: NewFolder,
    source: Annotated[
        list[str] | None, typer.Option(help="Only images of this source; may be repeated.")
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Number of images, drawn at random.")
    ] = None,
    min_size: Annotated[
        float, typer.Option(min=0, help="Minimum of the longer side of a person's box, in pixels.")
    ] = 0,
    min_keypoints: Annotated[
        int, typer.Option(min=0, help="Minimum number of labeled keypoints of a person.")
    ] = 0,
    seed: Seed = 0,
    images: ImagesBeside = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    copy: Copy = False,
) -> None:
    """Select a part of the images and persons."""
    from hrpose.data.coco import read_annotations
    from hrpose.data.editing import split as taking

    file = read_annotations(annotations, category=category, merge_categories=merge_categories)
    found, persons = taking.subset(
        file, out, source or (), max_images, min_size, min_keypoints, seed, images, copy
    )
    report_notes(file)
    conclude(images=found, persons=persons, files=[out / "annotations.json"])
    say(f"wrote {out / 'annotations.json'}: {persons_in(persons, found)}")
    _say_images(out, annotations, images)


@describe(
    "hrpose data stats train.json val.json",
    "hrpose data stats train.json --json",
    sets="an object for each file: `file`, `images`, `persons`, `keypoints`, `sources` and others",
)
def stats(
    annotations: Annotated[list[Path], typer.Argument(help="COCO keypoints files.")],
    category: Category = None,
    merge_categories: MergeCategories = False,
) -> None:
    """Count what is in a data set: persons, sizes, keypoints, sources."""
    from hrpose.data.coco import read_annotations
    from hrpose.data.editing import split as counting

    files = [
        read_annotations(path, category=category, merge_categories=merge_categories)
        for path in annotations
    ]
    found = [counting.stats(file) for file in files]
    report_notes(*files)
    conclude(sets=found)
    for numbers in found:
        _show(numbers)


def report_notes(*files: "CocoAnnotations") -> None:
    """Print what was repaired or left out in these files, a line for each kind."""
    from hrpose.data.rules import note_lines

    for file in files:
        for line in note_lines(file.path, file.notes):
            warn(line)


def _show(numbers: dict[str, Any]) -> None:
    from rich.table import Table

    console = plain_console()
    table = Table("", "min", "10%", "50%", "90%", "max", title=numbers["file"])
    for key in (
        "persons_per_image",
        "keypoints_per_person",
        "box_longer_side",
        "image_width",
        "image_height",
    ):
        table.add_row(key.replace("_", " "), *(f"{value:g}" for value in numbers[key]))
    console.print(table)
    sizes = ", ".join(f"{count} {name}" for name, count in numbers["sizes"].items())
    lines = [
        f"{persons_in(numbers['persons'], numbers['images'])} ({sizes})",
        f"{counted(numbers['images_without_persons'], 'image')} without persons, "
        f"{counted(numbers['persons_without_keypoints'], 'person')} without keypoints, "
        f"{counted(numbers['crowds'], 'crowd')}",
    ]
    if numbers["boxes_made_from_keypoints"]:
        lines.append(
            f"{counted(numbers['boxes_made_from_keypoints'], 'box', 'boxes')} from keypoints"
        )
    console.print("\n".join(lines), highlight=False)
    persons = max(numbers["persons"], 1)
    keypoints = Table(f"keypoint of {numbers['skeleton']}", "visible", "hidden", "not labeled")
    for name, seen in numbers["keypoints"].items():
        shares = (seen["visible"], seen["hidden"], persons - seen["visible"] - seen["hidden"])
        keypoints.add_row(name, *(f"{share / persons:.1%}" for share in shares))
    console.print(keypoints)
    if numbers["sources"]:
        sources = Table("source", "images", "persons")
        for name, count in numbers["sources"].items():
            sources.add_row(name or "(none)", str(count["images"]), str(count["persons"]))
        console.print(sources)


def _shares(text: str) -> dict[str, float]:
    shares = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = 0.0
        if not name.replace("-", "").isalnum() or not 0 < shares[name] < float("inf"):
            raise UserError(
                f"--parts {text}: expected names and shares, train=0.8,val=0.2",
                code="option-invalid",
            )
    if len(shares) != text.count(",") + 1:
        raise UserError(f"--parts {text}: expected each name once", code="option-invalid")
    return shares


def _say_images(out: Path, annotations: Path, images: Path | None) -> None:
    if (out / "images").exists():
        link = ", a link" if (out / "images").is_symlink() else ""
        say(f"images: {out / 'images'}{link}")
    else:
        say(f"images: as before, {images or annotations.parent}; give --images")


class Figure(StrEnum):
    """The kind of figures to draw."""

    person = "person"
    animal = "animal"


@describe(
    "hrpose data synthetic --out drawn/train",
    "hrpose data synthetic --out animals --figure animal --count 200",
    files="the annotations",
)
def synthetic(
    out: NewFolder,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
    figure: Annotated[
        Figure, typer.Option(help="Persons with COCO keypoints, or animals with nine of their own.")
    ] = Figure.person,
) -> None:
    """Draw a synthetic COCO data set: simple figures with exact keypoints."""
    from hrpose.synthetic import ANIMAL, PERSON, write_dataset

    drawn = {Figure.person: PERSON, Figure.animal: ANIMAL}[figure]
    annotations = write_dataset(out, count, seed, figure=drawn)
    conclude(files=[annotations])
    say(f"wrote {annotations}")


@describe(
    "hrpose data pack train.json --images images --out packed",
    "hrpose data pack train.json --images images.zip --out packed --height 384 --workers 8",
    persons="number of persons",
    bytes="size of the pack",
    files="the annotations of the pack",
)
def pack(
    annotations: Coco,
    images: Annotated[
        Path, typer.Option(help="Its images: a folder, images.zip or images.zip@/folder.")
    ],
    out: NewFolder,
    height: Annotated[
        int, typer.Option(min=64, help="Height of the crops to keep, in pixels.")
    ] = 256,
    aspect: Annotated[float, typer.Option(min=0.1, help="Width / height of the crops.")] = 0.75,
    padding: Annotated[float, typer.Option(min=0.5, help="Padding around the boxes.")] = 1.25,
    reach: Annotated[
        float, typer.Option(min=1, help="Margin for augmentation: 1 + scale + 6 x shift.")
    ] = 1.6,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 85,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    category: Category = None,
    merge_categories: MergeCategories = False,
) -> None:
    """Pack the crops of all persons into few files that train faster; can be stopped and resumed.

    In a recipe, `images: OUT` and `annotations: OUT/annotations.json` read the pack.
    """
    from hrpose.data.coco import read_annotations
    from hrpose.data.packed import PackSettings, write_pack
    from hrpose.io import locked

    settings = PackSettings(aspect, padding, height, reach, quality)
    chosen_of = partial(read_annotations, category=category, merge_categories=merge_categories)
    source = chosen_of(annotations) if category or merge_categories else annotations
    total = 0
    with progress("persons") as show, locked(out):
        for done, total in write_pack(source, images, out, settings, workers):
            show(done, total)
    size = sum(file.stat().st_size for file in out.glob("part-*.bin"))
    conclude(persons=total, bytes=size, files=[out / "annotations.json"])
    say(f"wrote {out}: {counted(total, 'person')}, {size / 1e6:.1f} MB")
