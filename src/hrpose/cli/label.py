"""`hrpose label`: label keypoints in the browser."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import describe
from hrpose.cli.console import conclude, counted, say
from hrpose.cli.deploy import AllowedHost, Host, Port, Token, checked_token
from hrpose.cli.options import PERSONS, Detector, Device, Precision
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
