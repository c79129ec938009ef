"""`hrpose data convert`: other data sets to COCO keypoints JSON, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.console import chosen, conflict, counted, pairs, persons_in, say
from hrpose.cli.options import (
    Coco,
    Copy,
    CopyToo,
    ImagesBeside,
    ImagesToCopy,
    MergeCategories,
    NewFolder,
    Overwrite,
    examples,
)
from hrpose.data.formats import SOURCES, TARGETS, Source, Target
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.skeleton import Skeleton as PoseSkeleton

app = typer.Typer(help="Convert data sets to COCO keypoints JSON, and back.", no_args_is_help=True)


@app.command(epilog=examples("hrpose data convert mpii mpii/annot mpii-coco"))
def mpii(
    annot: Annotated[
        Path, typer.Argument(help="Folder with train.json, valid.json, gt_valid.mat ...")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Its images, a folder or zip file; by default images/ beside ANNOT."),
    ] = None,
) -> None:
    """From MPII in the form of HRNet's official code; with gt_valid.mat, ready for PCKh."""
    from hrpose.data.formats.mpii import convert

    for done in convert(annot, out, images):
        heads = f", {done.heads} with head boxes" if done.heads else ""
        typer.echo(f"wrote {done.path}: {persons_in(done.persons, done.images)}{heads}")
        if done.images_found < done.images:
            typer.echo(
                f"  {done.images - done.images_found} images were not found and their sizes "
                "guessed, which poses do not depend on; name their folder with --images"
            )


@app.command("to-mpii", epilog=examples("hrpose data convert to-mpii mpii-coco/valid.json annot"))
def to_mpii(
    annotations: Annotated[
        Path, typer.Argument(help="File written by `hrpose data convert mpii`.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """To MPII in the form of HRNet's official code, with head boxes in gt_NAME.mat."""
    from hrpose.data.formats.mpii import from_coco

    for path in from_coco(annotations, out):
        typer.echo(f"wrote {path}")


Skeleton = Annotated[
    str | None,
    typer.Option(
        help="The keypoints and their order: coco-17 or another shipped skeleton, a YAML file, a "
        "COCO file, or Label Studio's config.xml."
    ),
]
Category = Annotated[
    str | None, typer.Option(help="The class or label to convert, where the source has several.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        help="OLD=NEW: another name for a keypoint; names of --skeleton or a shipped skeleton that "
        "differ in spelling only (Left Eye, LEye) are matched anyway."
    ),
]


# The inputs in the examples of the help.
_SOURCES = {
    "lsp": "joints.mat",
    "yolo": "data.yaml",
    "cvat": "annotations.xml",
    "label-studio": "export.json",
    "labelme": "folder",
    "deeplabcut": "CollectedData_me.csv",
    "sleap": "labels.slp",
    "datumaro": "export",
    "supervisely": "project",
    "csv": "table.csv",
    "coco": "other.json",
}


def add_to(app: typer.Typer) -> None:
    """Add the commands to `hrpose data convert`."""
    for name, source in SOURCES.items():
        app.command(
            name,
            help=f"From {source.help}.",
            epilog=examples(f"hrpose data convert {name} {_SOURCES[name]} out"),
        )(_reader(name, source))
    to_yolo_line = "hrpose data convert to-yolo train.json yolo --val val.json"
    app.command("to-yolo", epilog=examples(to_yolo_line))(to_yolo)
    for name, target in TARGETS.items():
        app.command(
            name,
            help=f"To {target.help}.",
            epilog=examples(f"hrpose data convert {name} train.json out"),
        )(_writer(name, target))


def _reader(name: str, source: Source) -> Callable[..., None]:
    is_coco = source.coco_json or name == "coco"

    def convert(
        source: Annotated[Path, typer.Argument(help=source.source)],
        out: NewFolder,
        images: ImagesBeside = None,
        skeleton: Skeleton = None,
        category: Category = None,
        scale_to_images: Annotated[
            bool,
            typer.Option(
                "--scale-to-images", help="Scale the labels of images that have been resized since."
            ),
        ] = False,
        merge_categories: MergeCategories = False,
        rename: Rename = None,
        new_ids: Annotated[
            bool, typer.Option("--new-ids", help="Number images and persons of COCO files anew.")
        ] = False,
        copy: Copy = False,
    ) -> None:
        from hrpose.data.formats.convert import to_coco
        from hrpose.data.formats.pose_set import ReadOptions
        from hrpose.data.images import ImageFiles
        from hrpose.data.skeleton_file import find_skeleton
        from hrpose.skeletons import SHIPPED

        if (merge_categories or new_ids) and not is_coco:
            raise conflict("--merge-categories and --new-ids: are for COCO files; leave them out")
        given = ReadOptions(
            ImageFiles(images) if images else None,
            find_skeleton(skeleton) if skeleton else None,
            category,
            scale_to_images,
            pairs("--rename", rename),
            merge_categories,
            new_ids,
        )
        done = to_coco(name, source, out, given, copy)
        for file, document in done.documents.items():
            persons = document["annotations"]
            counts = persons_in(len(persons), len(document["images"]))
            typer.echo(f"wrote {out / file}.json: {counts}")
            if unlabeled := sum(not person["num_keypoints"] for person in persons):
                typer.echo(f"  {counted(unlabeled, 'person')} without a labeled keypoint")
            if boxes_made := sum("bbox_guessed" in person for person in persons):
                typer.echo(
                    f"  boxes of {counted(boxes_made, 'person')} were made from their keypoints"
                )
        keypoints = done.found.skeleton
        known = f" of {keypoints.name}" if keypoints in SHIPPED.values() else ""
        names = ", ".join(keypoints.keypoints)
        typer.echo(f"  {counted(len(keypoints), 'keypoint')}{known}: {names}")
        if not known:
            _say_pairs(keypoints)
            typer.echo(f"wrote {out / 'skeleton.yaml'}: correct it where pairs or limbs are wrong")
        for note in done.found.notes:
            typer.echo(f"  {note}")
        total, found = len(done.found.images), done.found.images_found
        if found < total:
            typer.echo(f"  {total - found} of {total} images were not found; see --images")
        if found and (out / "images").exists():
            typer.echo(f"images: {out / 'images'}{', a link' * (out / 'images').is_symlink()}")
        elif found and done.found.files is not None:
            typer.echo(f"images: {done.found.files.path}; name it with --images, or use --copy")

    return convert


def _say_pairs(skeleton: "PoseSkeleton") -> None:
    from hrpose.skeleton import one_sided

    names = skeleton.keypoints
    pairs = ", ".join(f"{names[a]}/{names[b]}" for a, b in skeleton.flip_pairs)
    typer.echo(f"  flip pairs: {pairs or 'none'}")
    if alone := one_sided(names, skeleton.flip_pairs):
        typer.echo(f"  without a counterpart on the other side: {', '.join(alone)}")


def _writer(name: str, target: Target) -> Callable[..., None]:
    default = target.prefix

    def convert(
        annotations: Coco,
        out: NewFolder,
        prefix: Annotated[
            str, typer.Option(help="Prefix of the images' names in the tool.")
        ] = default,
        images: ImagesToCopy = None,
        category: Category = None,
        merge_categories: MergeCategories = False,
        copy: CopyToo = False,
    ) -> None:
        from hrpose.data.formats.convert import from_coco_to
        from hrpose.data.formats.pose_set import ReadOptions
        from hrpose.data.images import ImageFiles

        files = ImageFiles(images) if images else None
        given = ReadOptions(files, category=category, merge_categories=merge_categories)
        done = from_coco_to(name, annotations, out, given, prefix, copy)
        persons = sum(len(image.persons) for image in done.found.images)
        for file in done.files:
            typer.echo(f"wrote {out / file}")
        typer.echo(f"  {persons_in(persons, len(done.found.images))}")

    return convert


def to_yolo(
    annotations: Coco,
    out: NewFolder,
    val: Annotated[Path | None, typer.Option(help="COCO keypoints JSON for validation.")] = None,
    images: ImagesBeside = None,
    val_images: Annotated[Path | None, typer.Option(help="Images of --val.")] = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    copy: Copy = False,
) -> None:
    """To YOLO-pose (Ultralytics), with data.yaml; images are linked."""
    from hrpose.data.formats.convert import from_coco_to_yolo
    from hrpose.data.formats.pose_set import ReadOptions
    from hrpose.data.images import ImageFiles

    def given(place: Path | None) -> ReadOptions:
        files = ImageFiles(place) if place else None
        return ReadOptions(files, category=category, merge_categories=merge_categories)

    sources = {"train": (annotations, given(images))}
    if val is not None:
        sources["val"] = (val, given(val_images))
    done = from_coco_to_yolo(sources, out, copy)
    typer.echo(f"wrote {out / 'data.yaml'} and {len(done.files) - 1} files of labels")
    if done.left_out:
        typer.echo(
            f"  {counted(done.left_out, 'keypoint')} outside the image, written as not labeled"
        )
    if val is None:
        typer.echo("  val is train, because Ultralytics requires one; give another with --val")
    if not (out / "images").exists():
        typer.echo(f"  the images were not found; put them into {out / 'images'}")


add_to(app)


@app.command(epilog=examples("hrpose data convert results out/clip.jsonl --save coco,csv"))
def results(
    record: Annotated[Path, typer.Argument(help="A record that `hrpose predict` wrote, .jsonl.")],
    save: Annotated[
        str, typer.Option(help="What to write, separated by commas: coco, csv, parquet.")
    ] = "coco",
    overwrite: Overwrite = False,
) -> None:
    """From a record of `hrpose predict`, also one that a crash cut off, to its other files."""
    from hrpose.predict.record import SUFFIXES, Record, write_files

    kinds = chosen("--save", save, SUFFIXES)
    paths = {kind: record.with_suffix(end) for kind, end in SUFFIXES.items() if kind in kinds}
    read = Record(record)
    for path in paths.values():
        if path.exists() and not overwrite:
            raise UserError(
                f"{path}: is there already; --overwrite replaces it", code="overwrite-refused"
            )
    write_files(record, paths)
    count = sum(1 for _ in read)
    cut = "; it was cut off" if read.end is None else ""
    unit = "frame" if read.header.kind == "clip" else "image"
    say(f"{record}: {counted(count, unit)}{cut} -> {', '.join(map(str, paths.values()))}")
