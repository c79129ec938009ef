"""`hrpose data convert`: other data sets to COCO keypoints JSON, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import add, chosen, conflict, describe, group, pairs
from hrpose.cli.console import conclude, counted, persons_in, say
from hrpose.cli.options import (
    Coco,
    Copy,
    CopyToo,
    ImagesBeside,
    ImagesToCopy,
    KnownDistance,
    KnownHeight,
    MergeCategories,
    NewFolder,
    Overwrite,
)
from hrpose.data.formats import BENCHMARKS, SOURCES, TARGETS, Source, Target
from hrpose.errors import UserError
from hrpose.predict import FORMATS, check_formats

if TYPE_CHECKING:
    from hrpose.skeleton import Skeleton as PoseSkeleton


@describe(
    "hrpose data convert mpii mpii/annot --out mpii-coco",
    "hrpose data convert mpii mpii/annot --images mpii/images.zip --out mpii-coco",
    sets="an object for each file: `file`, `images`, `persons`, `heads`",
    files="the files written",
)
def mpii(
    source: Annotated[
        Path, typer.Argument(help="Folder with train.json, valid.json, gt_valid.mat ...")
    ],
    out: NewFolder,
    images: Annotated[
        Path | None,
        typer.Option(help="Its images, a folder or zip file; by default images/ beside SOURCE."),
    ] = None,
) -> None:
    """From MPII in the form of HRNet's official code; with gt_valid.mat, ready for PCKh."""
    from hrpose.data.formats.mpii import convert

    written = list(convert(source, out, images))
    conclude(
        sets=[
            {"file": d.path, "images": d.images, "persons": d.persons, "heads": d.heads}
            for d in written
        ],
        files=[done.path for done in written],
    )
    for done in written:
        heads = f", {done.heads} with head boxes" if done.heads else ""
        say(f"wrote {done.path}: {persons_in(done.persons, done.images)}{heads}")
        if done.images_found < done.images:
            say(
                f"  {counted(done.images - done.images_found, 'image')} not found, with guessed "
                "sizes, which poses do not depend on; name their folder with --images"
            )


@describe(
    "hrpose data convert to-mpii mpii-coco/valid.json --out annot",
    "hrpose data convert to-mpii mpii-coco/train.json --out annot --json",
    files="the files written",
)
def to_mpii(
    annotations: Annotated[
        Path, typer.Argument(help="File written by `hrpose data convert mpii`.")
    ],
    out: NewFolder,
) -> None:
    """To MPII in the form of HRNet's official code, with head boxes in gt_NAME.mat."""
    from hrpose.data.formats.mpii import from_coco

    written = list(from_coco(annotations, out))
    conclude(files=written)
    for path in written:
        say(f"wrote {path}")


def _benchmark(name: str, what: str) -> Callable[..., None]:
    file = "FOLDER" if name == "posetrack18" else what.split(",")[0]

    @describe(
        f"hrpose data convert {name} {file} --out converted",
        f"hrpose data convert {name} {file} --out converted --images images",
        sets="an object for each file: `file`, `images`, `persons`, `resized`",
        files="the files written",
    )
    def convert(
        source: Annotated[Path, typer.Argument(help=what)],
        out: NewFolder,
        images: Annotated[
            Path | None, typer.Option(help="Its images, from whose files sizes are read.")
        ] = None,
    ) -> None:
        from hrpose.metrics import benchmarks

        written = benchmarks.convert(name, source, out, images)
        names = ("images", "persons", "resized")
        sets = [{"file": e.path, **{n: getattr(e, n) for n in names}} for e in written]
        conclude(sets=sets, files=[each.path for each in written])
        for each in written:
            sizes = f"; the sizes of {counted(each.resized, 'image')} are new" * (each.resized > 0)
            say(f"wrote {each.path}: {persons_in(each.persons, each.images)}{sizes}")

    return convert


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


_TO_COCO = {
    "sets": "an object for each file: `file`, `images`, `persons`, `unlabeled`, `boxes_made`",
    "keypoints": "the names of the keypoints, in order",
    "flip_pairs": "pairs of left and right, by names",
    "images_found": "number of images that were found",
    "notes": "what was left out or changed, a list of texts",
    "files": "the files written",
}


def _reader(name: str, source: Source) -> Callable[..., None]:
    is_coco = source.coco_json or name == "coco"

    @describe(
        f"hrpose data convert {name} {_SOURCES[name]} --out converted",
        f"hrpose data convert {name} {_SOURCES[name]} --images images --out converted",
        **_TO_COCO,
    )
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
        keypoints, sets = done.found.skeleton, []
        for file, document in done.documents.items():
            persons, images_in = document["annotations"], len(document["images"])
            unlabeled = sum(not person["num_keypoints"] for person in persons)
            boxes_made = sum("bbox_guessed" in person for person in persons)
            sets.append(
                {
                    "file": out / f"{file}.json",
                    "images": images_in,
                    "persons": len(persons),
                    "unlabeled": unlabeled,
                    "boxes_made": boxes_made,
                }
            )
            say(f"wrote {out / file}.json: {persons_in(len(persons), images_in)}")
            if unlabeled:
                say(f"  {counted(unlabeled, 'person')} without a labeled keypoint")
            if boxes_made:
                say(f"  boxes of {counted(boxes_made, 'person')} were made from their keypoints")
        known = f" of {keypoints.name}" if keypoints in SHIPPED.values() else ""
        names = ", ".join(keypoints.keypoints)
        say(f"  {counted(len(keypoints), 'keypoint')}{known}: {names}")
        if not known:
            _say_pairs(keypoints)
            say(f"wrote {out / 'skeleton.yaml'}: correct it where pairs or limbs are wrong")
        for note in done.found.notes:
            say(f"  {note}")
        total, found = len(done.found.images), done.found.images_found
        conclude(
            sets=sets,
            keypoints=keypoints.keypoints,
            flip_pairs=[[keypoints.keypoints[k] for k in pair] for pair in keypoints.flip_pairs],
            images_found=found,
            notes=done.found.notes,
            files=[*(each["file"] for each in sets), *[out / "skeleton.yaml"] * (not known)],
        )
        if found < total:
            say(f"  not found: {total - found:,} of {counted(total, 'image')}; see --images")
        if found and (out / "images").exists():
            say(f"images: {out / 'images'}{', a link' * (out / 'images').is_symlink()}")
        elif found and done.found.files is not None:
            say(f"images: {done.found.files.path}; name it with --images, or use --copy")

    return convert


def _say_pairs(skeleton: "PoseSkeleton") -> None:
    from hrpose.skeleton import one_sided

    names = skeleton.keypoints
    pairs = ", ".join(f"{names[a]}/{names[b]}" for a, b in skeleton.flip_pairs)
    say(f"  flip pairs: {pairs or 'none'}")
    if alone := one_sided(names, skeleton.flip_pairs):
        say(f"  without a counterpart on the other side: {', '.join(alone)}")


_FROM_COCO = {
    "images": "number of images",
    "persons": "number of persons",
    "files": "the files written",
}


def _writer(name: str, target: Target) -> Callable[..., None]:
    default = target.prefix

    @describe(
        f"hrpose data convert {name} train.json --out {name.removeprefix('to-')}",
        f"hrpose data convert {name} train.json --out {name.removeprefix('to-')} --copy",
        **_FROM_COCO,
    )
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
        conclude(
            images=len(done.found.images),
            persons=persons,
            files=[out / file for file in done.files],
        )
        for file in done.files:
            say(f"wrote {out / file}")
        say(f"  {persons_in(persons, len(done.found.images))}")

    return convert


@describe(
    "hrpose data convert to-yolo train.json --out yolo --val val.json",
    "hrpose data convert to-yolo train.json --out yolo --images images.zip --copy",
    left_out="number of keypoints outside the image, written as not labeled",
    files="the files written",
)
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
    conclude(left_out=done.left_out, files=[out / file for file in done.files])
    labels = len(done.files) - 1
    say(f"wrote {out / 'data.yaml'} and {counted(labels, 'file')} of labels")
    if done.left_out:
        say(f"  {counted(done.left_out, 'keypoint')} outside the image, written as not labeled")
    if val is None:
        say("  val is train, because Ultralytics requires one; give another with --val")
    if not (out / "images").exists():
        say(f"  the images were not found; put them into {out / 'images'}")


@describe(
    "hrpose data convert results out/clip.jsonl --save openpose,dlc",
    "hrpose data convert results out/clip.jsonl --save trc,mot --height 1.75",
    "hrpose data convert results out/poses.jsonl --save parquet --overwrite",
    entries="number of images or frames",
    complete="false where the record was cut off",
    files="the files and folders written",
)
def results(
    record: Annotated[
        Path,
        typer.Argument(
            help="A record that `hrpose predict` wrote, .jsonl, or a file of results beside it "
            "(.json, .csv, .parquet)."
        ),
    ],
    save: Annotated[
        str,
        typer.Option(
            help="What to write, separated by commas: "
            + "; ".join(f"{kind} ({each.help})" for kind, each in FORMATS.items())
            + "."
        ),
    ] = "coco",
    height: KnownHeight = None,
    known: KnownDistance = None,
    overwrite: Overwrite = False,
) -> None:
    """From a record of `hrpose predict`, also one that a crash cut off, to its other files.

    With --height or --known, trc is in meters, y up; else in pixels.
    """
    from hrpose.predict.record import Record, write_files

    kinds = chosen("--save", save, FORMATS)
    scales = [f"--{name}" for name, value in (("height", height), ("known", known)) if value]
    if scales and "trc" not in kinds:
        raise conflict(f"{scales[0]}: is for trc; leave it out, or add trc to --save")
    if len(scales) > 1:
        raise conflict("--height and --known: both give the scale; leave out one of them")
    given, record = record, _record_beside(record)
    read = Record(record)
    if record != given:
        say(f"{given}: made from {record}")
    clip = read.header.kind == "clip"
    check_formats(kinds, clip=clip, where=f"{record}: --save")
    paths = {
        kind: record.parent / f"{record.stem}{each.suffix}"
        for kind, each in FORMATS.items()
        if kind in kinds
    }
    for path in paths.values():
        if path.exists() and not overwrite:
            raise UserError(
                f"{path}: is there already; --overwrite replaces it", code="overwrite-refused"
            )
    write_files(record, paths, height=height, known=known)
    count = sum(1 for _ in read)
    conclude(entries=count, complete=read.end is not None, files=list(paths.values()))
    cut = "; it was cut off" if read.end is None else ""
    unit = "frame" if clip else "image"
    say(f"{record}: {counted(count, unit)}{cut} -> {', '.join(map(str, paths.values()))}")


def _record_beside(path: Path) -> Path:
    """The record itself, or that from which a file of results was made.

    Raises UserError where there is none.
    """
    if path.suffix.lower() not in (".json", ".csv", ".parquet") or not path.is_file():
        return path
    record = path.with_suffix(".jsonl")
    if not record.is_file():
        raise UserError(
            f"{path}: expected the record {record.name} beside it, from which results are made, "
            "found none; predict again",
            code="record-missing",
        )
    return record


_FROM, _TO = "From other formats", "To other formats"

app = group(
    "Convert data sets to COCO keypoints JSON, and back.",
    "hrpose data convert yolo data.yaml --out converted",
    "hrpose data convert to-cvat train.json --out cvat",
)
add(app, "data convert mpii", mpii, panel=_FROM)
for _name, _source in SOURCES.items():
    _text = f"From {_source.help}."
    add(app, f"data convert {_name}", _reader(_name, _source), panel=_FROM, text=_text)
for _name, (_what, _help) in BENCHMARKS.items():
    add(app, f"data convert {_name}", _benchmark(_name, _what), panel=_FROM, text=f"From {_help}.")
add(app, "data convert results", results, panel=_FROM)
add(app, "data convert to-mpii", to_mpii, panel=_TO)
add(app, "data convert to-yolo", to_yolo, panel=_TO)
for _name, _target in TARGETS.items():
    _text = f"To {_target.help}."
    add(app, f"data convert {_name}", _writer(_name, _target), panel=_TO, text=_text)
