"""`hrpose data check`, `preview`, `rank`, `sigmas` and `skeleton`: what a data set is like."""

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli import add, chosen, conflict, convert, describe, editing, group, label
from hrpose.cli.console import (
    conclude,
    counted,
    is_verbose,
    note,
    plain_console,
    progress,
    say,
    warn,
)
from hrpose.cli.options import (
    BatchSize,
    BatchSizeOfWeights,
    Category,
    Detector,
    FlipTestOfWeights,
    Images,
    ImagesIfAny,
    InputSize,
    MergeCategories,
    Weights,
    parse_input_size,
)
from hrpose.errors import UserError


@describe(
    "hrpose data check train.json --images images",
    "hrpose data check train.json --images images --against val.json --weights w16-small",
    report="what was checked, and all findings by kind",
    findings="number of findings; with any, the exit code is 1",
    files="the file written, if any",
)
def check(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: ImagesIfAny = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another set, such as val.json, that must share no images with this one."
        ),
    ] = None,
    against_images: Annotated[
        str | None, typer.Option(help="Images of the other set, where they are elsewhere.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights for these keypoints: finds left and right swapped.")
    ] = None,
    skip: Annotated[
        str, typer.Option("--ignore", help="Kinds of problems to ignore, separated by commas.")
    ] = "",
    flip_test: FlipTestOfWeights = True,
    batch_size: BatchSizeOfWeights = 64,
    worst: Annotated[
        int, typer.Option(min=0, help="Number of findings of each kind to print.")
    ] = 3,
    all_findings: Annotated[bool, typer.Option("--all", help="Print all findings.")] = False,
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for all findings.")] = None,
) -> None:
    """Find problems of a data set: wrong labels, unreadable images, images shared with another set.

    Exit code 1 where problems were found.
    """
    from hrpose.api import load
    from hrpose.data.coco import read_annotations
    from hrpose.io import write_atomically
    from hrpose.quality.check import check
    from hrpose.quality.labels import KINDS

    ignored = chosen("--ignore", skip, KINDS)
    if images is None and (against is not None or weights is not None):
        raise conflict("--against and --weights: need the images; add --images")
    if against_images is not None and against is None:
        raise conflict("--against-images: expected --against FILE too, found none; add it")
    estimator = None
    if weights is not None:
        estimator = load(weights, detector="full-image", flip_test=flip_test, batch_size=batch_size)
    with progress("") as show:
        read = partial(
            read_annotations, lenient=True, category=category, merge_categories=merge_categories
        )
        report = check(
            read(annotations),
            images,
            against=None if against is None else read(against),
            against_images=against_images,
            estimator=estimator,
            ignore=ignored,
            progress=lambda what, done, total: show(done, total, what),
        )
    if out is not None:
        entry = {"annotations": str(annotations), "images": images, **report.as_dict()}
        write_atomically(out, json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    for line in report.lines(None if all_findings or is_verbose() else worst):
        say(line)
    conclude(
        report=report.as_dict(), findings=len(report.findings), files=[] if out is None else [out]
    )
    if out is not None:
        say(f"wrote {out}")
    if report.findings:
        raise typer.Exit(1)


@describe(
    "hrpose data preview train.json --images images",
    "hrpose data preview train.json --images images.zip --persons 12 --out look.html",
    persons="number of persons on the page",
    files="the page",
)
def preview(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: Images,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the annotations' skeleton.")
    ] = None,
    persons: Annotated[int, typer.Option(min=1, max=500, help="Number of persons to show.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="The same seed shows the same persons.")] = 0,
    input_size: InputSize = "192x256",
    photometric: Annotated[
        float, typer.Option(min=0, max=1, help="Strength of the color augmentation, as in recipes.")
    ] = 0.0,
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("preview.html"),
) -> None:
    """Write an HTML page of persons with keypoints, augmented and as heatmaps, and statistics."""
    from hrpose.data.augmentation import Augmentation
    from hrpose.data.coco import read_annotations
    from hrpose.io import write_atomically
    from hrpose.quality.preview import PreviewSettings, preview, render
    from hrpose.skeleton import Skeleton

    def complete(found: Skeleton) -> Skeleton:
        if skeleton is None:
            return found
        from hrpose.data.skeleton_file import complete_skeleton

        return complete_skeleton(found, skeleton)

    size = parse_input_size(input_size) or (192, 256)
    settings = PreviewSettings(size, Augmentation(photometric=photometric), persons, seed)
    with progress("persons") as show:
        parsed = read_annotations(
            annotations, lenient=True, category=category, merge_categories=merge_categories
        )
        shown = preview(parsed, images, settings, complete, show)
    write_atomically(out, render(shown))
    for line in shown.unread:
        warn(f"not shown: {line}")
    conclude(persons=len(shown.persons), files=[out])
    say(f"wrote {out}: {counted(len(shown.persons), 'person')} (open it in a browser)")


@describe(
    "hrpose data rank images --annotations train.json --out rank.csv",
    "hrpose data rank images.zip --top 20 --json",
    unlabeled="the images to label next, the best first: an object for each",
    doubtful="the labels to review, the most doubtful first: an object for each",
    unread="the images that could not be read, and why: a list of texts",
    files="the file written, if any",
)
def rank(
    images: Annotated[str, typer.Argument(help="Images: a folder, images.zip or images.zip@/DIR.")],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="COCO keypoints JSON of some of the images. Its labels are checked for errors; "
            "persons with a box and no keypoints are ranked with that box."
        ),
    ] = None,
    weights: Weights = "w32-small",
    detector: Detector = "auto",
    batch_size: BatchSize = 64,
    category: Category = None,
    merge_categories: MergeCategories = False,
    top: Annotated[int, typer.Option(min=0, help="Number of rows of each list to print.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="File for both lists: .json, or .csv with a column 'list'.")
    ] = None,
) -> None:
    """Rank the images worth labeling next, and the labels that are probably wrong."""
    from rich.table import Table

    from hrpose.api import load
    from hrpose.data.coco import read_annotations
    from hrpose.data.images import ImageFiles
    from hrpose.file_kinds import SUFFIXES
    from hrpose.io import write_atomically
    from hrpose.quality.labels import check_keypoints, read_labels
    from hrpose.quality.ranking import as_dict, rank

    if out is not None and out.suffix not in (".json", ".csv"):
        raise UserError(
            f"--out {out}: expected a name that ends in .json or .csv", code="option-invalid"
        )
    source = ImageFiles(images)
    labels = None
    if annotations is not None:
        parsed = read_annotations(
            annotations, lenient=True, category=category, merge_categories=merge_categories
        )
        labels = read_labels(parsed)[0]
    names = [name for name in source.names() if name.lower().endswith(SUFFIXES)]
    estimator = load(weights, detector=detector, batch_size=batch_size)
    if labels is not None and labels.skeleton is not None:
        check_keypoints(estimator, labels)
    with progress("images") as show:
        ranking = rank(estimator, source, names, labels, show)
    lists = as_dict(ranking)
    if out is not None and out.suffix == ".json":
        write_atomically(out, json.dumps(lists, indent=1, ensure_ascii=False) + "\n")
    elif out is not None:
        rows = [{"list": kind, **row} for kind in ("unlabeled", "doubtful") for row in lists[kind]]
        text = io.StringIO()
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(columns) or ["list"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out, text.getvalue())
    shown = plain_console(100)
    titles = {
        "unlabeled": f"to label next, of {counted(len(ranking.unlabeled), 'image')}",
        "doubtful": f"labels to review, of {len(ranking.doubtful):,} in doubt",
    }
    for kind, title in titles.items():
        if not lists[kind]:
            continue
        table = Table(title=title)
        for name in lists[kind][0]:
            table.add_column(name.replace("_", " "))
        for row in lists[kind][: None if is_verbose() else top]:
            table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        shown.print(table)
    if not ranking.unlabeled and not ranking.doubtful:
        say("no persons were found")
    for line in ranking.unread:
        warn(f"not ranked: {line}")
    conclude(**lists, files=[] if out is None else [out])
    if out is not None:
        say(f"wrote {out}")


@describe(
    "hrpose data sigmas first.json second.json --out sigmas.yaml",
    "hrpose data sigmas train.json --skeleton skeleton.yaml",
    method="how they were estimated",
    sigmas="the sigma of each keypoint, null where unknown",
    low="the lower end of its 95 % interval",
    high="the upper end",
    persons="number of persons with this keypoint",
    files="the file written, if any",
)
def sigmas(
    annotations: Annotated[
        list[Path],
        typer.Argument(
            help="COCO keypoints JSON of the same images, one file for each annotator; a single "
            "file gives an estimate from limb lengths."
        ),
    ],
    truth: Annotated[
        Path | None, typer.Option(help="Annotations that are the ground truth.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the skeleton, with limbs.")
    ] = None,
    limb_share: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=10, help="With one file: sigma / limb length; by default 0.17."
        ),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="COCO results: shows how their AP depends on the sigmas.")
    ] = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: Annotated[
        Path | None, typer.Option(help="YAML file to write, for `data.skeleton` in recipes.")
    ] = None,
) -> None:
    """Estimate OKS sigmas from repeated annotations, by COCO's definition."""
    import math
    from dataclasses import replace

    import yaml
    from rich.table import Table

    from hrpose.data.coco import CocoAnnotations, read_annotations
    from hrpose.data.persons import PersonTable
    from hrpose.data.skeleton_file import complete_skeleton
    from hrpose.evaluation.sigmas import LIMB_SHARE, ap_by_factor, from_limbs, from_repeats
    from hrpose.io import write_atomically

    if out is not None and out.exists():
        raise UserError(
            f"{out}: exists and may have been edited; remove it first", code="overwrite-refused"
        )

    def persons(parsed: CocoAnnotations) -> PersonTable:
        table = parsed.persons()
        if not len(table):
            raise parsed.no_labels()
        if skeleton is None:
            return table
        return replace(table, skeleton=complete_skeleton(table.skeleton, skeleton))

    read = partial(read_annotations, category=category, merge_categories=merge_categories)
    repeats = [read(path) for path in annotations]
    reference = None if truth is None else read(truth)
    tables = [persons(parsed) for parsed in repeats]
    editing.report_notes(*repeats)
    if len(tables) > 1 or truth is not None:
        if limb_share is not None:
            raise conflict("--limb-share: is for one file alone; leave it out, or give one file")
        estimate = from_repeats(tables, None if reference is None else persons(reference))
    else:
        estimate = from_limbs(tables[0], limb_share or LIMB_SHARE)
    console = plain_console(100)
    shown = Table(title=estimate.method)
    for name in ("keypoint", "sigma", "95 % from", "to", "persons", "before"):
        shown.add_column(name, justify="left" if name == "keypoint" else "right")
    known = estimate.skeleton.has_sigmas
    for keypoint, name in enumerate(estimate.skeleton.keypoints):
        values = (estimate.sigmas[keypoint], estimate.low[keypoint], estimate.high[keypoint])
        numbers = ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
        before = f"{estimate.skeleton.sigmas[keypoint]:.3f}" if known else "-"
        shown.add_row(name, *numbers, str(estimate.persons[keypoint]), before)
    console.print(shown)
    names = estimate.skeleton.keypoints
    conclude(
        method=estimate.method,
        sigmas=dict(zip(names, estimate.sigmas, strict=True)),
        low=dict(zip(names, estimate.low, strict=True)),
        high=dict(zip(names, estimate.high, strict=True)),
        persons=dict(zip(names, estimate.persons, strict=True)),
        files=[] if out is None else [out],
    )
    if results is not None:
        factors = Table(title=f"AP of {results.name} with these sigmas times a factor")
        for name in ("times", "AP", "AP50", "AP75"):
            factors.add_column(name, justify="right")
        for factor, scores in ap_by_factor(estimate, reference or repeats[0], results):
            values = (scores.AP, scores.AP50, scores.AP75)
            factors.add_row(f"{factor:g}", *(f"{value:.3f}" for value in values))
        console.print(factors)
    if out is not None:
        block = yaml.safe_dump({"sigmas": estimate.known()}, sort_keys=False, allow_unicode=True)
        write_atomically(out, f"# {estimate.method}\n{block}")
        say(f"wrote {out}")


@describe(
    "hrpose data skeleton train.json",
    "hrpose data skeleton train.json --out skeleton.yaml",
    skeleton="the name of the skeleton",
    keypoints="their names, in order",
    flip_pairs="pairs of left and right, by names",
    unpaired="the names of keypoints without a pair",
    files="the file written, if any",
)
def skeleton(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: Annotated[
        Path | None, typer.Option(help="YAML file to write; by default it is printed.")
    ] = None,
) -> None:
    """Write the skeleton of a data set as YAML, for `data.skeleton` in recipes; review it.

    Left and right keypoints are paired by their names.
    """
    from hrpose.data.coco import read_annotations
    from hrpose.data.skeleton_file import to_yaml
    from hrpose.errors import UserError
    from hrpose.io import write_atomically
    from hrpose.skeleton import one_sided
    from hrpose.skeletons import SHIPPED

    found = read_annotations(
        annotations, category=category, merge_categories=merge_categories
    ).skeleton
    if out is None:
        typer.echo(to_yaml(found), nl=False)
    elif out.exists():
        raise UserError(
            f"{out}: exists and may have been edited; remove it first", code="overwrite-refused"
        )
    else:
        write_atomically(out, to_yaml(found))
    names = found.keypoints
    paired = {index for pair in found.flip_pairs for index in pair}
    sided = one_sided(names, found.flip_pairs)
    alone = [name for index, name in enumerate(names) if index not in paired]
    origin = "a shipped skeleton" if found in SHIPPED.values() else "paired by their names"
    lines = [
        f"{len(found)} keypoints of '{found.name}', {origin}:",
        *(f"  {names[left]} <-> {names[right]}" for left, right in found.flip_pairs),
        f"  unpaired: {', '.join(alone) or 'none'}",
        *([f"  without a counterpart on the other side: {', '.join(sided)}"] if sided else []),
        *([f"wrote {out}; correct wrong pairs there"] if out else []),
    ]
    conclude(
        skeleton=found.name,
        keypoints=names,
        flip_pairs=[(names[left], names[right]) for left, right in found.flip_pairs],
        unpaired=alone,
        files=[] if out is None else [out],
    )
    for line in lines:
        note(line)


_LOOK, _KEYPOINTS, _WRITE = "Look at a data set", "Keypoints", "Write a data set"

app = group(
    "Check, view, convert and edit data sets.",
    "hrpose data stats train.json",
    "hrpose data check train.json --images images",
)
for _function in (check, preview, editing.stats, rank):
    add(app, f"data {_function.__name__}", _function, panel=_LOOK)
for _function in (skeleton, sigmas):
    add(app, f"data {_function.__name__}", _function, panel=_KEYPOINTS)
for _function in (editing.merge, editing.split, editing.subset, editing.pack, editing.synthetic):
    add(app, f"data {_function.__name__}", _function, panel=_WRITE)
add(app, "data predict-labels", label.predict_labels, panel=_WRITE)
app.add_typer(convert.app, name="convert", rich_help_panel=_WRITE)
