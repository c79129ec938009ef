"""`hrpose data merge`, `split`, `subset` and `stats` of COCO keypoints files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli.console import pairs, persons_in, plain_console, warn
from hrpose.cli.options import (
    Category,
    Coco,
    Copy,
    ImagesBeside,
    MergeCategories,
    NewFolder,
    examples,
)
from hrpose.data.editing import Keypoints
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.data.coco import CocoAnnotations

Seed = Annotated[int, typer.Option(help="The same seed draws the same images.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `hrpose data`."""
    lines: dict[Callable[..., None], str] = {
        merge: "hrpose data merge coco.json lsp.json both --keypoints common",
        split: "hrpose data split all.json parts --parts train=0.8,val=0.2 --group source",
        subset: "hrpose data subset all.json few --source dogs --min-size 60",
        stats: "hrpose data stats train.json val.json",
    }
    for command, line in lines.items():
        app.command(epilog=examples(line))(command)


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
    typer.echo(f"wrote {out / 'annotations.json'}: {persons_in(done.persons, done.images)}")
    for name, persons, count in done.sets:
        typer.echo(f"  {persons_in(persons, count)} of {name}")
    if done.shared:
        typer.echo(f"  {done.shared} images are in several sets, and have the persons of all")
    typer.echo(f"  {len(done.skeleton)} keypoints: {', '.join(done.skeleton.keypoints)}")


def split(
    annotations: Coco,
    out: NewFolder,
    parts: Annotated[
        str, typer.Option(help="Files to write and their shares of the images.")
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
    for part in done:
        typer.echo(
            f"wrote {out / part.name}.json: {persons_in(part.persons, part.images)}, "
            f"{part.images / max(total, 1):.1%} (asked for {part.wanted})"
        )
        if part.groups:
            shown = ", ".join(part.groups[:8])
            more = f" and {len(part.groups) - 8} more" if len(part.groups) > 8 else ""
            typer.echo(f"  {len(part.groups)} groups: {shown}{more}")
    _say_images(out, annotations, images)


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
    typer.echo(f"wrote {out / 'annotations.json'}: {persons_in(persons, found)}")
    _say_images(out, annotations, images)


def stats(
    annotations: Annotated[list[Path], typer.Argument(help="COCO keypoints files.")],
    category: Category = None,
    merge_categories: MergeCategories = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: a list with an object for each file.")
    ] = False,
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
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
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
        f"{numbers['persons']} persons in {numbers['images']} images ({sizes})",
        f"{numbers['images_without_persons']} images without persons, "
        f"{numbers['persons_without_keypoints']} persons without keypoints, {numbers['crowds']} "
        "crowds",
    ]
    if numbers["boxes_made_from_keypoints"]:
        lines.append(f"{numbers['boxes_made_from_keypoints']} boxes were made from keypoints")
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
        typer.echo(f"images: {out / 'images'}{link}")
    else:
        typer.echo(f"images: as before, {images or annotations.parent}; give --images")
