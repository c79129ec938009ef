"""`hrpose label`: label keypoints in the browser; `hrpose data predict-labels`: by a model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import conflict, describe
from hrpose.cli.console import conclude, counted, finish, persons_in, progress, say, warn
from hrpose.cli.deploy import AllowedHost, Host, Port, Token, checked_token
from hrpose.cli.options import (
    MODEL,
    PERSONS,
    Boxes,
    BoxThreshold,
    Copy,
    Detector,
    Device,
    NewFolder,
    Precision,
    Recursive,
    Weights,
)
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from hrpose.estimator import PoseEstimator
    from hrpose.skeleton import Skeleton

_DEFAULT = "w32-small"


@describe(
    "hrpose label photos",
    "hrpose label horses --skeleton horse.yaml --annotations old.json",
    address="the address of the page",
    images="number of images",
    clips="number of clips",
    model="the weights that suggest; null where none has the skeleton's keypoints",
    folder="the folder of the labels",
)
def label(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the images and clips.")
    ],
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="The keypoints: a shipped skeleton (coco-17), or a file (YAML, COCO JSON). By "
            "default those of the labels, else coco-17."
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Labels to begin with: COCO, CVAT, Label Studio, DeepLabCut, SLEAP or another "
            "format of `hrpose data convert`. Images that have labels keep theirs."
        ),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labels of the same images by another annotator (COCO keypoints): the page shows "
            "how far you agree, and can use it as OKS constants. Repeatable."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights that suggest poses; by default w32-small where it has the skeleton's "
            "keypoints.",
            rich_help_panel=PERSONS,
        ),
    ] = None,
    detector: Detector = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    host: Host = "127.0.0.1",
    port: Port = 8010,
    token: Token = None,
    allowed_host: AllowedHost = None,
) -> None:
    """Label keypoints in the browser, with poses of a model to begin with.

    Everything is written to the folder `hrpose-labels` in FOLDER: every change at once, and
    `annotations.json`, COCO keypoints, a moment later. SIGTERM or Ctrl-C stops it.
    """
    try:
        from hrpose.label.app import serve
        from hrpose.label.learn import Learner
        from hrpose.label.project import Project
        from hrpose.label.suggestions import Assistant
        from hrpose.serve.middleware import Access
        from hrpose.serve.server import listen, url_of
    except ModuleNotFoundError as error:
        raise missing("label", error, "hrpose[label]") from error

    token = checked_token(token)
    access = Access.parse(allowed_host or (), ())
    project = Project(folder, skeleton, annotations, other or ())
    opened = partial(
        _opened, project.skeleton, detector=detector, device=device, precision=precision
    )
    try:
        learner = Learner(project, opened, lambda: assistant.estimator)
        used = project.store.setting("model") if weights is None else None
        if used is None:
            estimator = _suited(weights, project.skeleton, opened)
            name = "" if estimator is None else weights or _DEFAULT
        else:
            model, estimator = learner.open(used)
            name = model.label
        assistant = Assistant(project, estimator, name)
        try:
            with listen(host, port) as listener:

                def ready() -> None:
                    address, images = url_of(listener), len(project.present)
                    conclude(
                        address=address,
                        images=images,
                        clips=len(project.clips),
                        model=name or None,
                        folder=project.folder,
                    )
                    for note in project.notes:
                        say(f"hrpose: {note}")
                    clips = f", {counted(len(project.clips), 'clip')}" if project.clips else ""
                    say(f"hrpose: {counted(images, 'image')}{clips} -> {project.folder}")
                    say(f"hrpose: {project.skeleton.name}; suggestions: {name or 'none'}")
                    typer.echo(f"hrpose: label at {address}; Ctrl-C stops it")

                serve(
                    project, assistant, learner, listener, token=token, access=access, ready=ready
                )
        finally:
            learner.close()
            assistant.close()
    finally:
        project.close()


def _suited(
    weights: str | None, skeleton: "Skeleton", opened: "Callable[[str], PoseEstimator]"
) -> "PoseEstimator | None":
    """The estimator of weights with the skeleton's keypoints; those of the default may differ."""
    from hrpose.metadata import Metadata, metadata_of
    from hrpose.weights import find

    found = metadata_of(find(weights or _DEFAULT), Metadata).skeleton.keypoints
    if found == skeleton.keypoints:
        return opened(weights or _DEFAULT)
    if weights is None:
        return None
    raise UserError(
        f"--weights {weights}: expected the keypoints of the project "
        f"({', '.join(skeleton.keypoints)}), found {', '.join(found)}",
        code="keypoints-differ",
    )


def _opened(
    skeleton: "Skeleton", weights: str, detector: str, device: str, precision: str
) -> "PoseEstimator":
    from hrpose.api import load

    # The person detector finds nothing else; of others the full image is a first box.
    persons = detector != "auto" or "person" in (skeleton.category or skeleton.name)
    return load(
        weights,
        detector=detector if persons else "full-image",
        refine=not persons,
        device=device,
        precision=precision,
    )


@describe(
    "hrpose data predict-labels photos --out labeled",
    "hrpose data predict-labels clip.mp4 --out labeled --every 30 --min-trust 0.9",
    "hrpose data predict-labels photos --out labeled --weights other.onnx --boxes boxes.json",
    images="number of images with a labeled person",
    persons="number of labeled persons",
    keypoints="number of labeled keypoints",
    resumed="number of images that an earlier run had done",
    left_out="what was left out: an object of numbers by reason",
    unread="what could not be read, and why: a list of texts",
    files="the annotations",
)
def predict_labels(
    sources: Annotated[
        list[str], typer.Argument(help="Images and clips: files, folders, addresses.")
    ],
    out: NewFolder,
    weights: Weights = "w32-small",
    conventions: Annotated[
        Path | None,
        typer.Option(
            help="YAML file: what an ONNX file of another program expects, as `conventions` in "
            "recipes.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    boxes: Boxes = None,
    min_trust: Annotated[
        float, typer.Option(min=0, max=1, help="Least agreement of the views of a keypoint.")
    ] = 0.8,
    min_keypoints: Annotated[
        int, typer.Option(min=1, help="Least number of such keypoints of a person.")
    ] = 6,
    every: Annotated[int, typer.Option(min=1, help="Of clips, label every N-th frame.")] = 15,
    recursive: Recursive = False,
    copy: Copy = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Label images and clips with a model: where its views of a person agree; can be resumed.

    The views are the image, its mirror image, and shifted, smaller and larger crops. Each labeled
    keypoint has its trust, their agreement; review the labels before you rely on them.
    """
    from hrpose.detection import open_detector
    from hrpose.io import locked
    from hrpose.models.onnx_pose import USUAL_CONVENTIONS, open_pose_model
    from hrpose.predict.inputs import boxes_by_image, find_inputs
    from hrpose.quality import pseudo_labels
    from hrpose.training.recipe import Conventions
    from hrpose.weights.registry import file_sha256, find
    from hrpose.yaml_file import load_as

    inputs = find_inputs(sources, recursive=recursive, results=out)
    if boxes is not None and inputs.clips:
        raise conflict("--boxes: are boxes in images; leave it out for clips")
    given = None if boxes is None else boxes_by_image(boxes, inputs.images)[0]
    file = find(weights)
    read = USUAL_CONVENTIONS
    if conventions is not None:
        read = load_as(conventions, (), Conventions).conventions()
    model = open_pose_model(file, read, device=device, precision=precision)
    opened = open_detector(detector, box_threshold, device=device, precision=precision)
    facts = {"name": model.metadata.title, "sha256": file_sha256(file)}
    facts["license"] = model.metadata.license
    limits = pseudo_labels.Thresholds(min_trust, min_keypoints, every)
    for problem in inputs.problems:
        warn(str(problem))
    with progress("images") as show, locked(out):
        done = pseudo_labels.predict_labels(
            model, facts, opened, inputs, out, limits, boxes=given, copy=copy, progress=show
        )
    conclude(
        images=done.images,
        persons=done.persons,
        keypoints=done.keypoints,
        resumed=done.resumed,
        left_out=done.left_out,
        unread=done.unread,
        files=[done.path],
    )
    for line in done.unread:
        warn(line)
    say(
        f"wrote {done.path}: {persons_in(done.persons, done.images)}, "
        f"{counted(done.keypoints, 'keypoint')}"
    )
    for reason, count in done.left_out.items():
        say(f"  left out: {reason}: {count:,}")
    finish(done.images, len(done.unread) + len(inputs.problems))
