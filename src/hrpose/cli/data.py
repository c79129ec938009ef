"""`hrpose data`: data sets that are made, checked, shown and ranked."""

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli import convert, dataset_editing
from hrpose.cli.options import (
    BatchSize,
    BatchSizeOfWeights,
    Detector,
    FlipTestOfWeights,
    Images,
    ImagesIfAny,
    InputSize,
    Weights,
    chosen,
    parse_input_size,
)
from hrpose.errors import UserError

app = typer.Typer(help="Make and change data sets.", no_args_is_help=True)
app.add_typer(convert.app, name="convert")
dataset_editing.add_to(app)


class Figure(StrEnum):
    """What can be drawn."""

    person = "person"
    animal = "animal"


@app.callback()
def _data() -> None:
    pass


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 0,
    figure: Annotated[
        Figure, typer.Option(help="People with COCO's joints, or animals with nine of their own.")
    ] = Figure.person,
) -> None:
    """Draw pictures of simple figures with exact keypoints, as a COCO data set."""
    from hrpose.synthetic import ANIMAL, PERSON, write_dataset

    drawn = {Figure.person: PERSON, Figure.animal: ANIMAL}[figure]
    annotations = write_dataset(out, pictures, seed, figure=drawn)
    typer.echo(f"wrote {annotations}")


@app.command()
def pack(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: Annotated[Path, typer.Argument(help="The folder or zip file of its pictures.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    height: Annotated[
        int, typer.Option(min=64, help="A person's crop keeps at least so many pixels.")
    ] = 256,
    aspect: Annotated[float, typer.Option(min=0.1, help="Width by height of the crops.")] = 0.75,
    padding: Annotated[float, typer.Option(min=0.5, help="Around the boxes.")] = 1.25,
    reach: Annotated[
        float, typer.Option(min=1, help="Room for augmentation: 1 + its scale + 6 times its shift.")
    ] = 1.6,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEG files.")] = 85,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Cut every person out once, so that training reads small pictures; can be stopped and resumed.

    In a recipe, `images: OUT` and `annotations: OUT/annotations.json` then read the pack.
    """
    from hrpose.cli.console import progress
    from hrpose.data.pack import PackSettings, write_pack

    settings = PackSettings(aspect, padding, height, reach, quality)
    total = 0
    with progress("people") as show:
        for done, total in write_pack(annotations, images, out, settings, workers):
            show(done, total)
    size = sum(file.stat().st_size for file in out.glob("part-*.bin"))
    typer.echo(f"wrote {out}: {total} people, {size / 1e6:.1f} MB")


@app.command()
def check(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: ImagesIfAny = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another set, such as val.json, whose pictures must not be in this one."),
    ] = None,
    against_images: Annotated[
        str | None, typer.Option(help="The other set's pictures, if they are elsewhere.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights for these joints: finds left and right swapped.")
    ] = None,
    skip: Annotated[
        str, typer.Option("--ignore", help="Kinds of faults to leave out, commas between.")
    ] = "",
    flip_test: FlipTestOfWeights = True,
    batch_size: BatchSizeOfWeights = 64,
    worst: Annotated[int, typer.Option(min=0, help="Of each kind, so many are printed.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Where all findings go as JSON.")] = None,
) -> None:
    """Find what spoils a training: bad labels, bad pictures, pictures that are in val too.

    Ends with exit code 1 where faults were found, 0 where there are none.
    """
    from hrpose.api import load
    from hrpose.cli.console import progress
    from hrpose.files import write_atomically
    from hrpose.inspection.check import check
    from hrpose.inspection.findings import KINDS

    ignored = chosen("--ignore", skip, KINDS)
    if images is None and (against is not None or weights is not None):
        raise UserError("--against and --weights: need the pictures; add --images")
    if against_images is not None and against is None:
        raise UserError("--against-images: expected --against FILE too, found none; add it")
    estimator = None
    if weights is not None:
        estimator = load(weights, detector="whole", flip_test=flip_test, batch_size=batch_size)
    with progress("") as show:
        report = check(
            annotations,
            images,
            against=against,
            against_images=against_images,
            estimator=estimator,
            ignore=ignored,
            progress=lambda what, done, total: show(done, total, what),
        )
    if out is not None:
        entry = {"annotations": str(annotations), "images": images, **report.as_dict()}
        write_atomically(out, json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    for line in report.lines(worst):
        typer.echo(line)
    if out is not None:
        typer.echo(f"wrote {out}")
    if report.findings:
        raise typer.Exit(1)


@app.command()
def preview(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: Images,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the annotations' skeleton.")
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=500, help="How many people are shown.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="The same seed shows the same people.")] = 0,
    input_size: InputSize = "192x256",
    photometric: Annotated[
        float, typer.Option(min=0, max=1, help="Changes of light and colour, as in recipes.")
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("preview.html"),
) -> None:
    """Write a page to browse: people with joints, augmented, as heatmaps; and distributions."""
    from hrpose.cli.console import progress
    from hrpose.data.augment import Augmentation
    from hrpose.files import write_atomically
    from hrpose.inspection.page import render
    from hrpose.inspection.preview import Look, preview
    from hrpose.skeleton import Skeleton

    def complete(found: Skeleton) -> Skeleton:
        if skeleton is None:
            return found
        from hrpose.data.skeleton_file import complete_skeleton

        return complete_skeleton(found, skeleton)

    size = parse_input_size(input_size) or (192, 256)
    look = Look(size, Augmentation(photometric=photometric), people, seed)
    with progress("people") as show:
        shown = preview(annotations, images, look, complete, show)
    write_atomically(out, render(shown))
    for line in shown.unread:
        typer.echo(f"not shown: {line}", err=True)
    typer.echo(f"wrote {out}: {len(shown.people)} people (open it in a browser)")


@app.command()
def rank(
    images: Annotated[
        str, typer.Argument(help="Pictures: a folder, images.zip or images.zip@/DIR.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="COCO keypoints JSON of some of them. Labels are searched for errors; people who "
            "have a box and no joints are ranked with that box."
        ),
    ] = None,
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    batch_size: BatchSize = 64,
    top: Annotated[int, typer.Option(min=0, help="So many of each are printed.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="All of both lists: .json, or .csv with a column 'list'.")
    ] = None,
) -> None:
    """Say which pictures a label would teach most, and which labels are probably wrong."""
    from rich.table import Table

    from hrpose.api import load
    from hrpose.cli.console import plain_console, progress
    from hrpose.data.pictures import PictureSource
    from hrpose.files import write_atomically
    from hrpose.image import SUFFIXES
    from hrpose.inspection.labels import read_labels
    from hrpose.inspection.poses import check_joints
    from hrpose.inspection.rank import as_dict, rank

    if out is not None and out.suffix not in (".json", ".csv"):
        raise UserError(f"--out {out}: expected a name that ends in .json or .csv")
    source = PictureSource(images)
    labels = None if annotations is None else read_labels(annotations)[0]
    names = [name for name in source.names() if name.lower().endswith(SUFFIXES)]
    estimator = load(weights, detector=detector, batch_size=batch_size)
    if labels is not None and labels.skeleton is not None:
        check_joints(estimator, labels)
    with progress("pictures") as show:
        ranking = rank(estimator, source, names, labels, show)
    lists = as_dict(ranking)
    if out is not None and out.suffix == ".json":
        write_atomically(out, json.dumps(lists, indent=1, ensure_ascii=False) + "\n")
    elif out is not None:
        rows = [{"list": kind, **row} for kind in ("unlabelled", "doubtful") for row in lists[kind]]
        text = io.StringIO()
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(columns) or ["list"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out, text.getvalue())
    shown = plain_console(100)
    titles = {
        "unlabelled": f"what to label next, of {len(ranking.unlabelled)} pictures",
        "doubtful": f"labels to look at, of {len(ranking.doubtful)} in doubt",
    }
    for kind, title in titles.items():
        if not lists[kind]:
            continue
        table = Table(title=title)
        for name in lists[kind][0]:
            table.add_column(name.replace("_", " "))
        for row in lists[kind][:top]:
            table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        shown.print(table)
    if not ranking.unlabelled and not ranking.doubtful:
        typer.echo("nobody to rank was found")
    for line in ranking.unread:
        typer.echo(f"not looked at: {line}", err=True)
    if out is not None:
        typer.echo(f"wrote {out}")


@app.command()
def sigmas(
    annotations: Annotated[
        list[Path],
        typer.Argument(
            help="COCO keypoints JSON of the same pictures, one file for each annotator; a single "
            "file gives a guess from the lengths of limbs."
        ),
    ],
    truth: Annotated[
        Path | None, typer.Option(help="Annotations that are the truth, if there are such.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the skeleton, with limbs.")
    ] = None,
    limb_share: Annotated[
        float | None,
        typer.Option(min=0.001, max=10, help="Of the guess: sigma by limb length; else 0.17."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="COCO results, to see how much their AP depends on the constants."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The YAML file to write, for `data.skeleton` in recipes.")
    ] = None,
) -> None:
    """Estimate OKS constants: how far annotators are off, by COCO's definition."""
    import math
    from dataclasses import replace

    import yaml
    from rich.table import Table

    from hrpose.cli.console import plain_console
    from hrpose.data.coco import CocoAnnotations, read_annotations
    from hrpose.data.persons import PersonTable
    from hrpose.data.skeleton_file import complete_skeleton
    from hrpose.evaluation.sigmas import LIMB_SHARE, ap_by_factor, from_limbs, from_repeats
    from hrpose.files import write_atomically

    if out is not None and out.exists():
        raise UserError(f"{out}: exists, and may have been corrected by hand; remove it first")

    def persons(parsed: CocoAnnotations) -> PersonTable:
        table = parsed.persons()
        if not len(table):
            raise UserError(f"{parsed.path}: expected people with labelled keypoints, found none")
        if skeleton is None:
            return table
        return replace(table, skeleton=complete_skeleton(table.skeleton, skeleton))

    repeats = [read_annotations(path) for path in annotations]
    reference = None if truth is None else read_annotations(truth)
    tables = [persons(parsed) for parsed in repeats]
    if len(tables) > 1 or truth is not None:
        if limb_share is not None:
            raise UserError("--limb-share: is for one file alone; leave it out, or give one file")
        estimate = from_repeats(tables, None if reference is None else persons(reference))
    else:
        estimate = from_limbs(tables[0], limb_share or LIMB_SHARE)
    console = plain_console(100)
    shown = Table(title=estimate.method)
    for name in ("keypoint", "sigma", "95 % from", "to", "people", "so far"):
        shown.add_column(name, justify="left" if name == "keypoint" else "right")
    known = estimate.skeleton.has_sigmas
    for joint, name in enumerate(estimate.skeleton.keypoints):
        values = (estimate.sigmas[joint], estimate.low[joint], estimate.high[joint])
        numbers = ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
        so_far = f"{estimate.skeleton.sigmas[joint]:.3f}" if known else "-"
        shown.add_row(name, *numbers, str(estimate.people[joint]), so_far)
    console.print(shown)
    if results is not None:
        figures = Table(title=f"AP of {results.name} with these constants times a factor")
        for name in ("times", "AP", "AP50", "AP75"):
            figures.add_column(name, justify="right")
        for factor, scores in ap_by_factor(estimate, reference or repeats[0], results):
            values = (scores.AP, scores.AP50, scores.AP75)
            figures.add_row(f"{factor:g}", *(f"{value:.3f}" for value in values))
        console.print(figures)
    if out is not None:
        block = yaml.safe_dump({"sigmas": estimate.known()}, sort_keys=False, allow_unicode=True)
        write_atomically(out, f"# {estimate.method}\n{block}")
        typer.echo(f"wrote {out}")


@app.command()
def skeleton(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it, it is printed.")
    ] = None,
) -> None:
    """Write the file that completes a skeleton, for `data.skeleton` in recipes; look it over.

    Which keypoints change places in a mirror image is guessed from their names.
    """
    from hrpose.data.coco import read_annotations
    from hrpose.data.skeleton_file import to_yaml
    from hrpose.errors import UserError
    from hrpose.files import write_atomically
    from hrpose.skeleton import SHIPPED

    found = read_annotations(annotations).skeleton
    if out is None:
        typer.echo(to_yaml(found), nl=False)
    elif out.exists():
        raise UserError(f"{out}: exists, and may have been corrected by hand; remove it first")
    else:
        write_atomically(out, to_yaml(found))
    names = found.keypoints
    paired = {index for pair in found.flip_pairs for index in pair}
    alone = [name for index, name in enumerate(names) if index not in paired]
    whence = "known" if found in SHIPPED.values() else "paired by their names"
    lines = [
        f"{len(found)} keypoints of '{found.name}', {whence}:",
        *(f"  {names[left]} <-> {names[right]}" for left, right in found.flip_pairs),
        f"  on their own: {', '.join(alone) or 'none'}",
        *([f"wrote {out}; correct it where that is wrong"] if out else []),
    ]
    typer.echo("\n".join(lines), err=True)
