"""`hrpose weights`: list, download, bundle, verify, convert and push files of weights."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli import add, check_writable, chosen, conflict, describe, group
from hrpose.cli.console import conclude, counted, progress, say, warn
from hrpose.cli.options import (
    Annotations,
    BatchSize,
    Category,
    FlipTestOfFit,
    Images,
    InputSize,
    MergeCategories,
    NewFile,
    parse_input_size,
)
from hrpose.errors import UserError, check_not_input

if TYPE_CHECKING:
    from hrpose.skeleton import Skeleton
    from hrpose.weights.registry import Released


_NAMES = "Names from `hrpose weights list`, or MMPose's and the official ones."
Names = Annotated[list[str], typer.Argument(help=_NAMES)]
NamesIfAny = Annotated[list[str] | None, typer.Argument(help=_NAMES)]


@describe(
    "hrpose weights list",
    "hrpose weights list wholebody",
    "hrpose weights list --json",
    weights="an object for each model: `name`, `kind`, `megabytes`, `score`, `metric`, `license`, "
    "`here`, `recommended_for`, `aliases`, `addresses`, `sha256` and others",
    downloads="the folder of downloaded weights",
)
def list_weights(
    word: Annotated[
        str, typer.Argument(help="Only models with this in a name, also in the publishers'.")
    ] = "",
) -> None:
    """List the released models: size, published score, license, which are here and recommended.

    --json has all facts, also addresses, hashes and the publishers' names, which all commands take.
    """
    from hrpose.weights.registry import SUBSET, digits, home, listed

    rows = list(listed(word))
    conclude(weights=rows, downloads=home())
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("name", no_wrap=True),
        Column("MB", justify="right"),
        Column("published score", no_wrap=True),
        Column("license", no_wrap=True),
        Column("here", no_wrap=True),
        Column("best for", no_wrap=True),
        box=SIMPLE_HEAD,
        caption=f"* {SUBSET}, with ground-truth boxes and flip test: compare these two with each "
        f"other only\ndownloads: {home()}; sizes are computed; whole licenses: --json",
        caption_justify="left",
    )
    for row in rows:
        size = "" if row["megabytes"] is None else f"{row['megabytes']:.0f}"
        score = "" if row["score"] is None else f"{row['metric']} {digits(row['score'])}"
        score += "*" if row["here"] == "inside" else ""
        license = row["license"].partition(" (")[0]
        table.add_row(row["name"], size, score, license, row["here"], row["recommended_for"])
    Console(width=max(142, Console().width)).print(table)


def provide(row: "Released", yes: bool) -> None:
    """Download and convert released weights, after asking where `yes` does not allow it.

    What was downloaded before is only converted. Raises UserError where nobody can be asked, and
    where the answer is no.
    """
    from hrpose.weights.download import check_package, fetch
    from hrpose.weights.registry import published_file

    check_package(row)
    if not yes and not published_file(row).is_file():
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        question = f"{row.name}: not downloaded yet ({row.facts}). Download it?"
        if not asked or not typer.confirm(question, default=True, err=True):
            raise UserError(
                f"{row.name}: not downloaded ({row.facts}); `hrpose weights download {row.name}` "
                "does that, or --yes",
                code="weights-not-downloaded",
            )
    elif yes:
        warn(f"{row.name}: {row.facts}")
    with progress("bytes", row.name) as show:
        fetch(row, progress=show)


@describe(
    "hrpose weights download w32-coco-256x192 yolox-s",
    "hrpose weights download w32-coco-256x192 --from pose_hrnet_w32_256x192.pth",
    "hrpose weights download --from weights.zip",
    "hrpose weights download w32-coco-256x192-udp --from http://intranet/weights/",
    weights="an object for each name: `name`, `file`, `license`, `score`",
)
def download(
    names: NamesIfAny = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|FILE|URL",
            help="Where to get them instead: a bundle or a folder (without names, all in it), a "
            "file, or the address of a file or, with / at its end, of a folder.",
        ),
    ] = None,
) -> None:
    """Download weights into the cache and verify them; pose models are converted, ready to run."""
    from hrpose.weights.bundle import rows_from
    from hrpose.weights.download import fetch
    from hrpose.weights.registry import digits

    rows = rows_from(names or (), origin)
    found: list[dict[str, Any]] = []
    for row in rows:
        with progress("bytes", row.name) as show:
            path = fetch(row, origin, show, several=len(rows) > 1)
        found.append({"name": row.name, "file": path, "license": row.license, "score": row.score})
        conclude(weights=found)
        say(f"{row.name}: {path}")
        score = "" if row.score is None else f"; {digits(row.score)} {row.measured}"
        say(f"license: {row.license}{score}")


@describe(
    "hrpose weights bundle w32-coco-256x192-udp yolox-s weights.zip",
    "hrpose weights bundle td-hm_hrnet-w48_udp-8xb32-210e_coco-384x288 --out w48.zip",
    weights="an object for each name: `name`, `file` (its name in the bundle), `license`",
    files="the bundle",
)
def bundle(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAMES [OUT.zip]", help=f"{_NAMES} The last may be the file."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The zip file to write.")
    ] = None,
) -> None:
    """Write published files of weights as one zip file, for machines without internet.

    Files that are not in the cache are downloaded first. There,
    `hrpose weights download --from OUT.zip` verifies and converts them.
    """
    from hrpose.weights.bundle import rows_from, write_bundle
    from hrpose.weights.download import published

    if out is None and names[-1].endswith(".zip"):
        out = Path(names.pop())
    if out is None or out.suffix != ".zip" or not names:
        raise UserError(
            f"{out or names[-1]}: expected names and a file that ends in .zip",
            code="option-invalid",
        )
    check_writable(out)
    rows = rows_from(names)
    for row in rows:
        with progress("bytes", row.name) as show:
            published(row, progress=show)
    with progress("bytes", out.name) as show:
        write_bundle(rows, out, show)
    for row in rows:
        say(f"{row.name}: {row.file_name}, license: {row.license}")
    found = [{"name": row.name, "file": row.file_name, "license": row.license} for row in rows]
    conclude(weights=found, files=[out])
    say(f"wrote {out}, {out.stat().st_size / 1e6:.0f} MB")


@describe(
    "hrpose weights push horses.onnx --to me/horses",
    "hrpose weights push horses.onnx horses.safetensors --to me/horses --public",
    name="what --weights takes",
)
def push(
    files: Annotated[
        list[Path],
        typer.Argument(help="An .onnx file, a .safetensors file, or both of the same weights."),
    ],
    to: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository on the Hub.")],
    public: Annotated[
        bool,
        typer.Option("--public", help="Make a new repository public; by default it is private."),
    ] = False,
) -> None:
    """Upload weights to the Hugging Face Hub, with their metadata and a model card."""
    from hrpose.weights.hub import HubName
    from hrpose.weights.hub import push as push_files

    done = push_files(files, HubName.parse(to), private=not public)
    conclude(name=str(done))
    say(f"{done}: uploaded; use this name with --weights, or hf:{done.repo} for the newest")


@describe(
    "hrpose weights calibrate w16.onnx --annotations val.json --images images --out fitted.onnx",
    "hrpose weights calibrate w16.onnx --annotations val.json --images images --out fitted.onnx "
    "--fit presence",
    persons="number of persons that it was fitted on",
    fitted="what was fitted: scores, covariance, presence",
    coverage="labels inside the 95 % ellipses, of these persons; null without a covariance",
    files="the copy of the weights",
)
def calibrate(
    weights: Annotated[str, typer.Argument(help="Weights by name, or a file.")],
    annotations: Annotations,
    images: Images,
    out: NewFile,
    fit: Annotated[
        str, typer.Option(help="What to fit, separated by commas: scores, covariance, presence.")
    ] = "scores,covariance",
    category: Category = None,
    merge_categories: MergeCategories = False,
    flip_test: FlipTestOfFit = False,
    batch_size: BatchSize = 16,
) -> None:
    """Fit what makes the weights' numbers honest, and store it in a copy of them.

    scores: keypoint scores become the expected keypoint similarity. covariance: the 95 % ellipses
    of keypoints hold 95 % of the labels. presence: how probable it is that a keypoint is visible,
    hidden or absent, where every keypoint that can be placed has a label. Use persons that the
    weights were not trained on.
    """
    from hrpose.api import load
    from hrpose.data.coco import read_annotations
    from hrpose.data.images import ImageFiles
    from hrpose.evaluation.calibrate import PARTS, calibrated, check_copy, measure, store
    from hrpose.weights import find

    parts = chosen("--fit", fit, PARTS)
    file = find(weights)
    check_copy(file, out)
    check_writable(out)
    estimator = load(
        weights, detector="full-image", flip_test=flip_test, batch_size=batch_size, precision="fp32"
    )
    parsed = read_annotations(annotations, category=category, merge_categories=merge_categories)
    with progress("images") as show:
        try:
            measured = measure(estimator, parsed.persons(), ImageFiles(images), show)
        except UserError as error:
            raise UserError(f"{annotations}: {error}", code=error.code) from error
    metadata, reasons = calibrated(estimator.metadata, measured, parts)
    if reasons:
        raise UserError(f"{annotations}: {'; '.join(reasons)}", code="labels-missing")
    store(file, metadata, out)
    found, labels = measured.coverage(metadata), int(measured.labeled.sum())
    conclude(
        persons=len(measured.peaks),
        fitted=sorted(parts),
        coverage=None if found is None else float(found.found[-1]),
        files=[out],
    )
    fitted_on = f"{counted(labels, 'label')} of {counted(len(measured.peaks), 'person')}"
    say(
        f"{', '.join(sorted(parts))} fitted on {fitted_on} -> {out}; `hrpose analyze` measures them"
    )


@describe(
    "hrpose weights verify",
    "hrpose weights verify w32-coco-256x192 yolox-s",
    weights="an object for each: `name`, and `sound`, null where it was not downloaded",
)
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names; by default all that were downloaded.")
    ] = None,
) -> None:
    """Compare hashes of downloaded files with the published ones; exit code 1 if one differs."""
    from hrpose.weights.download import is_sound
    from hrpose.weights.registry import RELEASED, published_file, released

    found: list[dict[str, Any]] = []
    for row in [released(name) for name in names] if names else RELEASED.values():
        sound = is_sound(row)
        if sound is None and not names:
            continue
        found.append({"name": row.name, "sound": sound})
        remedy = f"delete {published_file(row)} and download it again"
        states = {True: f"sha256 {row.sha256}, as published", False: f"another file; {remedy}"}
        say(f"{row.name}: {states[sound] if sound is not None else 'not downloaded'}")
    conclude(weights=found)
    if not found:
        say("no weights were downloaded")
    if not all(each["sound"] for each in found):
        raise typer.Exit(1)


@describe(
    "hrpose weights path w16-small", "hrpose weights path hf:me/horses --json", path="the path"
)
def path(name: Annotated[str, typer.Argument(help="A name, or a file.")]) -> None:
    """Print the path of the file that `--weights NAME` uses."""
    from hrpose.weights import find

    found = find(name)
    conclude(path=found)
    say(str(found))


class CodecName(StrEnum):
    """See `hrpose.codec.Codec`."""

    gaussian = "gaussian"
    dark = "dark"
    udp = "udp"


# What `weights convert` writes: hrpose's formats, and the state dict of the official code.
_OWN, _OFFICIAL = (".onnx", ".safetensors"), (".pth", ".pt")


@describe(
    "hrpose weights convert pose_hrnet_w32_256x192.pth --out w32.onnx",
    "hrpose weights convert pose_hrnet_w32_256x192.pth --out w32.safetensors",
    "hrpose weights convert w32.safetensors --out w32.pth",
    origin="the project that the checkpoint is from",
    network="the name of the network",
    keypoints="number of keypoints; null for a backbone without a head",
    matched="number of entries that were matched",
    dropped="number of entries that were dropped, by reason",
    files="the file written",
)
def convert(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint of the official code, mmpose, timm or hrpose.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help=".onnx, to run anywhere; .safetensors, to run and train with PyTorch; .pth, a "
            "bare PyTorch state dict for the official code.",
        ),
    ],
    input_size: InputSize = None,
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="coco, mpii or another shipped one (lsp-14), or a file that names the keypoints: "
            "COCO keypoints JSON, or YAML."
        ),
    ] = None,
    codec: Annotated[
        CodecName | None, typer.Option(help="The codec the heatmaps were trained with.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(min=0.1, help="Sigma of the targets, in heatmap pixels.")
    ] = None,
    training_data: Annotated[
        str, typer.Option(help="Their training data, for the metadata.")
    ] = "unknown",
    license: Annotated[str, typer.Option(help="Their license, for the metadata.")] = "unknown",
) -> None:
    """Convert a checkpoint of another project; reports which entries were matched and dropped.

    Metadata that the file lacks is inferred from its name and shapes, and printed.
    """
    from hrpose.models import convert
    from hrpose.models.convert import Known, metadata_for

    if out.suffix not in (*_OWN, *_OFFICIAL):
        raise UserError(
            f"--out {out}: expected a name that ends in {', '.join(_OWN)} or {_OFFICIAL[0]}",
            code="option-invalid",
        )
    check_not_input(out, source)
    weights = convert.read(source)
    k = weights.num_keypoints
    what = "a backbone without a head" if k is None else counted(k, "keypoint")
    say(f"{source}: {weights.origin}, network {weights.network}, {what}")
    matched = len(weights.state) - weights.added
    say(f"  matched {matched} entries")
    for reason, count in weights.dropped.items():
        say(f"  dropped {count}: {reason}")
    if weights.added:
        say(f"  set {counted(weights.added, 'unused BatchNorm counter')} to zero")
    known = Known(
        input_wh=parse_input_size(input_size),
        skeleton=_skeleton(skeleton),
        codec=codec.value if codec else None,
        sigma=sigma,
        training_data=training_data,
        license=license,
    )
    own = out.suffix in _OWN
    if own and k is not None:
        metadata, reasons = metadata_for(weights, source, known)
        for reason in reasons:
            say(f"  {reason}")
        convert.write_hrpose(out, weights, metadata)
    elif known != Known():
        raise conflict(f"{out}: has no metadata; leave out the options for it")
    elif own:
        convert.write_hrpose(out, weights, None)
    else:
        convert.write_official(out, weights)
    use = "; a recipe can start from it (weights: ...)" if k is None else ""
    conclude(
        origin=weights.origin,
        network=weights.network,
        keypoints=k,
        matched=matched,
        dropped=weights.dropped,
        files=[out],
    )
    say(f"wrote {out}{use}")


def _skeleton(name: str | None) -> "Skeleton | None":
    from hrpose.data.skeleton_file import find_skeleton
    from hrpose.skeletons import COCO_17, MPII_16

    if name is None:
        return None
    short = {"coco": COCO_17, "mpii": MPII_16}  # as most papers call them
    return short[name] if name in short else find_skeleton(name)


app = group(
    "List, download, bundle, verify, convert and push weights.",
    "hrpose weights list",
    "hrpose weights download w32-coco-256x192",
)
add(app, "weights list", list_weights)
add(app, "weights download", download)
add(app, "weights bundle", bundle)
add(app, "weights verify", verify)
add(app, "weights path", path)
add(app, "weights calibrate", calibrate)
add(app, "weights convert", convert)
add(app, "weights push", push)
