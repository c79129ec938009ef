"""`hrpose data convert`: other data sets to COCO keypoints JSON, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import Coco, Copy, CopyToo, ImagesBeside, ImagesToCopy, NewFolder
from hrpose.data.formats.table import SOURCES, TARGETS, Source, Target

app = typer.Typer(help="Convert data sets to COCO keypoints JSON, and back.", no_args_is_help=True)


@app.command()
def mpii(
    annot: Annotated[
        Path, typer.Argument(help="The folder with train.json, valid.json, gt_valid.mat ...")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    images: Annotated[
        Path | None,
        typer.Option(help="The pictures, a folder or zip file; by default images beside ANNOT."),
    ] = None,
) -> None:
    """MPII in the form of HRNet's official code; with gt_valid.mat, ready for PCKh."""
    from hrpose.data.formats.mpii import convert

    for done in convert(annot, out, images):
        heads = f", {done.heads} with head boxes" if done.heads else ""
        typer.echo(f"wrote {done.path}: {done.people} people in {done.pictures} pictures{heads}")
        if done.pictures_found < done.pictures:
            typer.echo(
                f"  {done.pictures - done.pictures_found} pictures were not found and their sizes "
                "guessed; poses do not depend on them, but name the folder with --images to be sure"
            )


@app.command("to-mpii")
def to_mpii(
    annotations: Annotated[Path, typer.Argument(help="What 'convert mpii' wrote.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
) -> None:
    """Back to the official code's JSON, and gt_NAME.mat where there are head boxes."""
    from hrpose.data.formats.mpii import from_coco

    for path in from_coco(annotations, out):
        typer.echo(f"wrote {path}")


Skeleton = Annotated[
    str | None,
    typer.Option(
        help="The joints and their order: coco-17 or another shipped one, a YAML file that says "
        "keypoints, a COCO file, or Label Studio's config.xml."
    ),
]
Category = Annotated[
    str | None, typer.Option(help="Which class or label, where the source has several.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `hrpose data convert`."""
    for name, source in SOURCES.items():
        app.command(name, help=f"{source.help} To COCO keypoints.")(_reader(name, source))
    app.command("to-yolo")(to_yolo)
    for name, target in TARGETS.items():
        app.command(name, help=f"From COCO keypoints: {target.help}")(_writer(name, target))


def _reader(name: str, source: Source) -> Callable[..., None]:
    def convert(
        source: Annotated[Path, typer.Argument(help=source.source)],
        out: NewFolder,
        images: ImagesBeside = None,
        skeleton: Skeleton = None,
        category: Category = None,
        copy: Copy = False,
    ) -> None:
        from hrpose.data.formats.convert import pictures_found, to_coco
        from hrpose.data.formats.people import Given
        from hrpose.data.pictures import PictureSource
        from hrpose.data.skeleton_file import skeleton_called
        from hrpose.skeleton import SHIPPED

        given = Given(
            PictureSource(images) if images else None,
            skeleton_called(skeleton) if skeleton else None,
            category,
        )
        done = to_coco(name, source, out, given, copy)
        for document in done.documents:
            typer.echo(
                f"wrote {out / document.name}.json: {document.people} people in "
                f"{document.pictures} pictures"
            )
            if document.boxes_made:
                typer.echo(f"  boxes of {document.boxes_made} people were made from their joints")
        joints = done.found.skeleton
        known = f" of {joints.name}" if joints in SHIPPED.values() else ""
        typer.echo(f"  {len(joints)} joints{known}: {', '.join(joints.keypoints)}")
        if not known:
            typer.echo(f"wrote {out / 'skeleton.yaml'}: correct it where pairs or limbs are wrong")
        for note in done.found.notes:
            typer.echo(f"  {note}")
        total, found = len(done.found.pictures), pictures_found(done.found)
        if found < total:
            typer.echo(f"  {total - found} of {total} pictures were not found; see --images")
        if found and (out / "images").exists():
            typer.echo(f"pictures: {out / 'images'}{'' if copy else ', a link'}")
        elif found and done.found.images is not None:
            typer.echo(f"pictures: {done.found.images.place}; name it with --images, or use --copy")

    return convert


def _writer(name: str, target: Target) -> Callable[..., None]:
    default = target.prefix

    def convert(
        annotations: Coco,
        out: NewFolder,
        prefix: Annotated[
            str, typer.Option(help="What the tool finds the pictures below, before their names.")
        ] = default,
        images: ImagesToCopy = None,
        category: Category = None,
        copy: CopyToo = False,
    ) -> None:
        from hrpose.data.formats.convert import from_coco_to
        from hrpose.data.formats.people import Given
        from hrpose.data.pictures import PictureSource

        given = Given(PictureSource(images) if images else None, None, category)
        done = from_coco_to(name, annotations, out, given, prefix, copy)
        people = sum(len(picture.people) for picture in done.found.pictures)
        for file in done.files:
            typer.echo(f"wrote {out / file}")
        typer.echo(f"  {people} people in {len(done.found.pictures)} pictures")

    return convert


def to_yolo(
    annotations: Coco,
    out: NewFolder,
    val: Annotated[Path | None, typer.Option(help="The same, of what to judge by.")] = None,
    images: ImagesBeside = None,
    val_images: Annotated[Path | None, typer.Option(help="The pictures of --val.")] = None,
    category: Category = None,
    copy: Copy = False,
) -> None:
    """From COCO keypoints: YOLO-pose with data.yaml, as Ultralytics has it; pictures are linked."""
    from hrpose.data.formats.convert import from_coco_to_yolo
    from hrpose.data.formats.people import Given
    from hrpose.data.pictures import PictureSource

    def given(place: Path | None) -> Given:
        return Given(PictureSource(place) if place else None, None, category)

    sources = {"train": (annotations, given(images))}
    if val is not None:
        sources["val"] = (val, given(val_images))
    done = from_coco_to_yolo(sources, out, copy)
    typer.echo(f"wrote {out / 'data.yaml'} and {len(done.files) - 1} files of labels")
    if done.left_out:
        typer.echo(f"  {done.left_out} joints outside their pictures are written as not labelled")
    if val is None:
        typer.echo("  val is train, as Ultralytics asks for one; give another with --val")
    if not (out / "images").exists():
        typer.echo(f"  the pictures were not found; they belong into {out / 'images'}")


add_to(app)
