"""`hrpose batch`, `serve`, `site` and `explain`: archives, servers, and pages."""

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import conflict, describe, given
from hrpose.cli.console import Show, conclude, counted, finish, progress, say, stop_signal, warn
from hrpose.cli.options import (
    PERSONS,
    RESULTS,
    THRESHOLD,
    BatchSize,
    BoxThreshold,
    Detector,
    Device,
    FlipTest,
    MinScore,
    Out,
    Overwrite,
    Precision,
    Refine,
    Threshold,
    Weights,
    Yes,
)
from hrpose.engines import asked
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.batch.job import Job
    from hrpose.batch.run import Outcome, State

# The bounds of `hrpose.image`, whose import would slow down `--help`.
MAX_MEGABYTES, MAX_MEGAPIXELS = 200, 100
_MOST_FAILURES_SHOWN = 10
_WORKERS = "Workers"


Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="HRPOSE_TOKEN",
        help="Require this bearer token. Safer in the environment: other users can read a "
        "command line.",
    ),
]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option(
        help="A name that this server is reached by, beside localhost; `*.example.com` for all "
        "under it. Repeatable."
    ),
]


def checked_token(token: str | None) -> str | None:
    """The token of `--token` or the environment. Raises UserError where it is none."""
    if token is None:  # typer ignores an empty variable
        token = os.environ.get("HRPOSE_TOKEN")
    if token is not None and not token.strip():
        raise UserError(
            "--token (HRPOSE_TOKEN): expected a secret, found an empty text; set one, or unset the "
            "variable for a server without",
            code="token-empty",
        )
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UserError(
            "--token: expected printable ASCII characters; choose another", code="option-invalid"
        )
    return token


class EngineName(StrEnum):
    """What runs the workers."""

    processes = "processes"
    ray = "ray"


@describe(
    "hrpose batch archive.zip --out poses",
    "hrpose batch s3://bucket/folder --engine ray --address auto --out poses",
    images="number of images of the archive",
    done="number of images that are done, in this run or earlier ones",
    failed="of these, how many could not be read; the table has the reasons",
    persons="number of persons in what is done; null where this run had nothing to do",
    finished="whether all is done; if not, the same command continues",
    images_this_run="number of images that this run did",
    folder="the folder of the result files",
    detector="the name of the person detector; null where this run had nothing to do",
    engine="what ran the pose model; null where this run had nothing to do",
)
def batch(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a zip file, a list (.txt, .parquet) or an address (s3://bucket/folder)."
        ),
    ],
    out: Out = Path("out"),
    weights: Weights = "w32-small",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    min_score: MinScore = None,
    flip_test: FlipTest = False,
    refine: Refine = False,
    threshold: Threshold = THRESHOLD,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    partition: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Images in each result file; by default 250.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Repeat the partitions that have failed images.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="processes (on this machine) or ray (a cluster).", rich_help_panel=_WORKERS
        ),
    ] = EngineName.processes,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers; by default as many as the cores allow.",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
    worker_cpus: Annotated[
        int, typer.Option(min=1, help="Cores for each worker.", rich_help_panel=_WORKERS)
    ] = 1,
    worker_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs for each Ray worker.", rich_help_panel=_WORKERS)
    ] = 0.0,
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default a new one on "
            "this machine.",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
) -> None:
    """Estimate the poses in archives of any size; write one Parquet file for each partition.

    Run the same command again to continue after an interruption. An image that cannot be read is a
    row with the reason.
    """
    for option in ("address", "worker_gpus"):
        if engine is not EngineName.ray and given(context, option):
            name = f"--{option.replace('_', '-')}"
            raise conflict(f"{name}: needs --engine ray; add it or leave {name} out")
    from hrpose.api import load

    try:
        from hrpose.batch.run import Workers, predict
        from hrpose.batch.worker import Choices
    except ModuleNotFoundError as error:
        raise missing("hrpose batch", error, "hrpose[archives]") from error
    choices = Choices(
        weights,
        detector,
        box_threshold,
        min_score,
        flip_test,
        refine,
        threshold,
        *asked(device, precision),  # the environment is that of this process, not of the workers
    )
    with stop_signal() as signal, progress("images", "listing") as show:
        watch = _Watch(show)
        outcome = predict(
            source,
            out,
            choices.portable(),
            load,
            Workers(engine.value, workers, worker_cpus, worker_gpus, address),
            watch,
            lambda: signal() is not None,
            batch_size=batch_size,
            partition=partition,
            retry_failed=retry_failed,
        )
        number = signal()
    if outcome is None:
        finish(0, 0, number)
        return
    _report(outcome, watch.seconds)
    done = outcome.job.images if outcome.state is None else outcome.state.done.images
    finish(done - outcome.failed, outcome.failed, number)


def _report(outcome: "Outcome", seconds: float) -> None:
    """Print the counts and, where images failed in this run, the first reasons."""
    from hrpose.batch.job import failures

    job, state, failed = outcome.job, outcome.state, outcome.failed
    folder = job.folder / "poses"
    conclude(
        images=job.images,
        done=job.images if state is None else state.done.images,
        failed=failed,
        persons=None if state is None else state.done.persons,
        finished=state is None or state.finished,
        images_this_run=0 if state is None else state.this_run.images,
        folder=folder,
        detector=None if state is None else outcome.detector,
        engine=None if state is None else outcome.engine,
    )
    if state is None:
        say(f"{counted(job.images, 'image')} already done ({failed:,} failed) in {folder}")
        return
    here, done = state.this_run, state.done
    say(
        f"{done.images:,} of {counted(job.images, 'image')} ({done.failed:,} failed), "
        f"{counted(done.persons, 'person')} (detector: {outcome.detector}) -> {folder} "
        f"({outcome.engine})"
    )
    if here.images:
        lost = f", {counted(state.lost, 'worker')} lost" if state.lost else ""
        say(
            f"this run: {counted(here.images, 'image')}, {here.images / seconds:.1f} images/s, "
            f"{counted(state.workers, 'worker')}{lost}"
        )
    if not state.finished:
        say("run the same command again to continue")
    if here.failed:
        for reason in failures(job, _MOST_FAILURES_SHOWN):
            warn(reason)
        if done.failed > _MOST_FAILURES_SHOWN:
            warn(f"see the column 'reason' of {folder} for all")


class _Watch:
    """Shows the progress of a job, and measures the time of this run."""

    def __init__(self, show: "Show") -> None:
        self._show = show
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    def listed(self, count: int) -> None:
        self._show(count, None, "listing")

    def begin(self, job: "Job", done: int) -> None:
        self._began = time.monotonic()
        self._show(done, job.images, "starting workers")

    def update(self, state: "State") -> None:
        lost = f", {state.lost} lost (the last one {state.why_lost})" if state.lost else ""
        workers = counted(state.workers, "worker") if state.workers else "starting workers"
        what = f"{state.done.failed:,} failed, {workers}{lost}"
        self._show(state.done.images, state.job.images, what)


@describe(
    "hrpose serve --port 8000",
    "hrpose serve --host 0.0.0.0 --weights w32-coco-256x192",
    address="the address that it listened on",
    detector="the name of the person detector",
    engine="what ran the pose model",
)
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    weights: Weights = "w32-small",
    detector: Detector = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Batches that run at the same time; they share the cores. Two by default, and one "
            "on a GPU.",
        ),
    ] = None,
    token: Token = None,
    allowed_host: AllowedHost = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin such as https://example.com, whose pages may use this server. "
            "Repeatable."
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGABYTES, help="Largest accepted image file.")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGAPIXELS, help="Largest accepted image.")
    ] = 40,
) -> None:
    """Serve poses over HTTP, with a demo page at /. SIGTERM or Ctrl-C stops it."""
    try:
        from hrpose.serve.middleware import Access, Limits, is_loopback
        from hrpose.serve.server import listen, open_networks, serve, url_of
    except ModuleNotFoundError as error:
        raise missing("serve", error, "hrpose[serve]") from error
    from hrpose import weights as registry
    from hrpose.estimator import PoseEstimator

    token = checked_token(token)
    access = Access.parse(allowed_host or (), allowed_origin or ())
    file = registry.find(weights)
    sessions, detectors = open_networks(file, detector, device, precision, workers)
    engine = PoseEstimator(sessions[0], detector=detectors[0]).engine
    limits = Limits(max_bytes=round(max_megabytes * 1e6), max_pixels=round(max_megapixels * 1e6))
    with listen(host, port) as listener:

        def ready() -> None:
            conclude(address=url_of(listener), detector=detectors[0].name, engine=engine)
            typer.echo(f"hrpose: {weights} at {url_of(listener)}; Ctrl-C stops it")
            typer.echo(f"hrpose: person detector: {detectors[0].name}; {engine}")
            if is_loopback(listener.getsockname()[0]):
                return
            if token is None:
                typer.echo("hrpose: open to everyone who can reach this address; see --token")
            if not access.hosts:
                typer.echo("hrpose: reached by IP address only; for a name see --allowed-host")

        serve(sessions, listener, detectors, token=token, access=access, limits=limits, ready=ready)


@describe(
    "hrpose explain photo.jpg --out explained",
    "hrpose explain photo.jpg --box 100,40,180,400 --keypoint left_wrist --language zh",
    files="the page, and the PNG files if any",
)
def explain(
    path: Annotated[Path, typer.Argument(help="An image.")],
    weights: Weights = "w32-small",
    yes: Yes = False,
    box: Annotated[
        str | None, typer.Option(help="The person's box: x,y,w,h.", rich_help_panel=PERSONS)
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="COCO JSON with boxes of the image; the largest is explained.",
            rich_help_panel=PERSONS,
        ),
    ] = None,
    detector: Detector = "auto",
    keypoint: Annotated[
        str | None, typer.Option(help="The keypoint to show pixel by pixel, such as left_wrist.")
    ] = None,
    threshold: Threshold = THRESHOLD,
    language: Annotated[
        str, typer.Option(metavar="en|zh", help="Language of the page: English or Chinese.")
    ] = "en",
    png: Annotated[
        bool, typer.Option("--png", help="Also write the crop and the heatmaps as PNG files.")
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the page, or its name: page.html.")
    ] = Path("out"),
) -> None:
    """Explain how a pose is estimated, as an HTML page: crop, features, heatmaps, and exercises."""
    from hrpose.api import load
    from hrpose.cli.predict import download_missing
    from hrpose.explain import box_to_explain, trace, write
    from hrpose.image import read_image
    from hrpose.weights import find

    if box is not None and boxes is not None:
        raise conflict("--box and --boxes: expected one of them, found both")
    image = read_image(path)
    boxed = box is not None or boxes is not None
    download_missing(yes, weights, None if boxed else detector)
    estimator = load(weights, detector="full-image" if boxed else detector, precision="fp32")
    person = box_to_explain(path, image, estimator, box, boxes)
    traced = trace(estimator.session, image, person, keypoint, find(weights))
    written = list(write(traced, path.name, out, threshold, language, images=png))
    conclude(files=written)
    for file in written:
        say(f"wrote {file}")


@describe(
    "hrpose site demo",
    "hrpose site demo --weights w16-small --runtime node_modules/onnxruntime-web",
    folder="the folder that was written",
    bytes="the size of its files",
)
def site(
    folder: Annotated[Path, typer.Argument(help="Folder for the page; new or empty.")],
    weights: Annotated[
        str, typer.Option(help="w32-small, w16-small (faster), or a pose model of hrpose as .onnx.")
    ] = "w32-small",
    detector: Annotated[
        str,
        typer.Option(
            help="builtin, a person detector of hrpose as .onnx, or none: each image is one person."
        ),
    ] = "builtin",
    webgpu: Annotated[
        bool,
        typer.Option(
            "--webgpu/--no-webgpu", help="Also run on graphics cards; 7 MB more in the folder."
        ),
    ] = True,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="The npm package onnxruntime-web: its folder, node_modules with it, or its .tgz; "
            "by default npm fetches it, once."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page that estimates poses in the browser: for any static host, without a server.

    Images never leave the device of whoever opens it. Once loaded, it works without a network.
    """
    from hrpose import weights as registry
    from hrpose.site.build import detector_of, write_site

    file = registry.find(weights)
    size = write_site(
        folder, file, detector_of(detector), runtime, webgpu=webgpu, overwrite=overwrite
    )
    conclude(folder=folder, bytes=size)
    say(f"wrote {folder} ({size / 1e6:.1f} MB); any static host serves it")
