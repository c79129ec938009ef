"""`hrpose weights`, and `hrpose export`, `quantize` and `summary`: files of weights."""

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli.console import conflict, plain_console, progress, warn
from hrpose.cli.options import FlipTest, Images, InputSize, examples, parse_input_size
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.skeleton import Skeleton
    from hrpose.weights.registry import Released


app = typer.Typer(help="List, download, verify, convert and push weights.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(help="Names from `hrpose weights list`.")]


@app.command("list", epilog=examples("hrpose weights list", "hrpose weights list --json"))
def list_weights(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all facts, also addresses and hashes, as JSON.")
    ] = False,
) -> None:
    """List the released models: size, published score, license, which are here and recommended."""
    from hrpose.weights.registry import home

    rows = list(_listed())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
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
        caption=f"downloads: {home()}; sizes are computed; whole licenses: --json",
        caption_justify="left",
    )
    for row in rows:
        size = "" if row["megabytes"] is None else f"{row['megabytes']:.0f}"
        score = "" if row["score"] is None else f"{row['metric']} {row['score']:.3f}"
        license = row["license"].partition(" (")[0]
        table.add_row(row["name"], size, score, license, row["here"], row["recommended_for"])
    Console(width=max(110, Console().width)).print(table)


def _listed() -> Iterator[dict[str, Any]]:
    """A row for each model that a name stands for, as JSON."""
    from hrpose.metadata import Metadata, metadata_of
    from hrpose.weights import EMBEDDED, find
    from hrpose.weights.registry import RELEASED, published_file, usable_file

    def facts(metadata: Metadata | None) -> dict[str, Any]:
        if metadata is None:
            return {}
        return {
            "network": metadata.network,
            "input_wh": metadata.input_wh,
            "skeleton": metadata.skeleton.name,
            "codec": metadata.codec.name,
            "training_data": metadata.training_data,
        }

    for name in EMBEDDED:
        metadata = metadata_of(find(name), Metadata)
        yield {
            "name": name,
            "kind": "pose",
            "megabytes": find(name).stat().st_size / 1e6,
            "score": None,
            "metric": "",
            "license": metadata.license,
            "here": "inside",
            "recommended_for": "a first try",
            **facts(metadata),
        }
    for row in RELEASED.values():
        usable, there = usable_file(row).is_file(), published_file(row).is_file()
        yield {
            "name": row.name,
            "kind": row.kind,
            "megabytes": row.megabytes,
            "score": row.score,
            "metric": row.metric,
            "measured": row.measured,
            "license": row.license,
            "source": row.source,
            "here": "yes" if usable else "not converted" if there else "",
            "recommended_for": row.recommended,
            "addresses": row.addresses,
            "sha256": row.sha256,
            **facts(row.metadata),
        }


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
    with progress(row.name, "bytes", lines_every=10) as show:
        fetch(row, progress=show)


@app.command(epilog=examples("hrpose weights download w32-coco-256x192 yolox-s"))
def download(
    names: Names,
    origin: Annotated[
        str | None, typer.Option("--from", help="Another address, or a local file (for one name).")
    ] = None,
) -> None:
    """Download weights into the cache and verify them; pose models are converted, ready to run."""
    from hrpose.weights.download import fetch
    from hrpose.weights.registry import released

    rows = [released(name) for name in names]
    if origin is not None and len(rows) > 1:
        raise UserError(
            f"--from {origin}: expected one name, found {len(rows)}; download one at a time",
            code="option-invalid",
        )
    for row in rows:
        with progress(row.name, "bytes") as show:
            path = fetch(row, origin, show)
        typer.echo(f"{row.name}: {path}")
        score = "" if row.score is None else f"; {row.score:.3f} {row.measured}"
        typer.echo(f"license: {row.license}{score}")


@app.command(epilog=examples("hrpose weights push horses.onnx --to me/horses"))
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
    typer.echo(f"{done}: uploaded; use this name with --weights, or hf:{done.repo} for the newest")


@app.command(epilog=examples("hrpose weights verify"))
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names; by default all that were downloaded.")
    ] = None,
) -> None:
    """Compare hashes of downloaded files with the published ones; exit code 1 if one differs."""
    from hrpose.weights.download import is_sound
    from hrpose.weights.registry import RELEASED, published_file, released

    wrong, checked = False, 0
    for row in [released(name) for name in names] if names else RELEASED.values():
        sound = is_sound(row)
        if sound is None and not names:
            continue
        wrong, checked = wrong or not sound, checked + 1
        remedy = f"delete {published_file(row)} and download it again"
        states = {True: f"sha256 {row.sha256}, as published", False: f"another file; {remedy}"}
        typer.echo(f"{row.name}: {states[sound] if sound is not None else 'not downloaded'}")
    if not checked:
        typer.echo("no weights were downloaded")
    if wrong:
        raise typer.Exit(1)


@app.command(epilog=examples("hrpose weights path w16-small"))
def path(name: Annotated[str, typer.Argument(help="A name, or a file.")]) -> None:
    """Print the path of the file that `--weights NAME` uses."""
    from hrpose.weights import find

    typer.echo(find(name))


class Form(StrEnum):
    """The format to write."""

    hrpose = "hrpose"
    official = "official"


class CodecName(StrEnum):
    """See `hrpose.codec.Codec`."""

    gaussian = "gaussian"
    dark = "dark"
    udp = "udp"


@app.command(
    epilog=examples(
        "hrpose weights convert pose_hrnet_w32_256x192.pth w32.onnx",
        "hrpose weights convert pose_hrnet_w32_256x192.pth w32.safetensors",
        "hrpose weights convert w32.safetensors w32.pth --to official",
    )
)
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A checkpoint of the official code, mmpose or timm."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[
        Form,
        typer.Option(
            help="hrpose: .onnx, to run anywhere, or .safetensors, to run and train with PyTorch. "
            "official: a bare PyTorch state dict."
        ),
    ] = Form.hrpose,
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

    expected = {Form.hrpose: (".onnx", ".safetensors"), Form.official: (".pth", ".pt")}[to]
    if out.suffix not in expected:
        raise UserError(
            f"{out}: expected a file name that ends in {' or '.join(expected)}",
            code="option-invalid",
        )
    weights = convert.read(source)
    k = weights.num_keypoints
    what = "a backbone without a head" if k is None else f"{k} keypoints"
    typer.echo(f"{source}: {weights.origin}, network {weights.network}, {what}")
    typer.echo(f"  matched {len(weights.state) - weights.added} entries")
    for reason, count in weights.dropped.items():
        typer.echo(f"  dropped {count}: {reason}")
    if weights.added:
        typer.echo(f"  set {weights.added} unused BatchNorm counters to zero")
    known = Known(
        input_wh=parse_input_size(input_size),
        skeleton=_skeleton(skeleton),
        codec=codec.value if codec else None,
        sigma=sigma,
        training_data=training_data,
        license=license,
    )
    if to is Form.hrpose and k is not None:
        metadata, reasons = metadata_for(weights, source, known)
        for reason in reasons:
            typer.echo(f"  {reason}")
        convert.write_hrpose(out, weights, metadata)
    elif known != Known():
        raise conflict(f"{out}: has no metadata; leave out the options for it")
    elif to is Form.hrpose:
        convert.write_hrpose(out, weights, None)
    else:
        convert.write_official(out, weights)
    use = "; a recipe can start from it (weights: ...)" if k is None else ""
    typer.echo(f"wrote {out}{use}")


def _skeleton(name: str | None) -> "Skeleton | None":
    from hrpose.data.skeleton_file import find_skeleton
    from hrpose.skeletons import COCO_17, MPII_16

    if name is None:
        return None
    # As most papers call them.
    short = {"coco": COCO_17, "mpii": MPII_16}
    return short[name] if name in short else find_skeleton(name)


def summary(
    network: Annotated[
        str, typer.Argument(help="A network (w32, w48), or weights by name (w16-small) or file.")
    ],
    input_size: InputSize = None,
) -> None:
    """Print parameters and multiply-accumulates of each stage of a network, for one crop."""
    from rich.console import Console
    from rich.table import Column, Table

    from hrpose.metadata import Metadata
    from hrpose.models import NETWORKS, HRNet
    from hrpose.models.hrnet import summarize
    from hrpose.session import open_session
    from hrpose.weights import EMBEDDED, find

    # `w16-small` is both a network and weights, which have an input size.
    only_network = network in NETWORKS and network not in EMBEDDED
    metadata = (
        Metadata(network, (192, 256)) if only_network else open_session(find(network)).metadata
    )
    input_wh = parse_input_size(input_size) or metadata.input_wh
    model = HRNet.from_name(metadata.network, len(metadata.skeleton))
    stages = summarize(model, input_wh)
    table = Table(
        "stage",
        Column("parameters", justify="right"),
        Column("GMACs", justify="right"),
        title=f"{metadata.network}: {model.num_keypoints} keypoints, {input_wh[0]}x{input_wh[1]}",
    )
    for cost in stages:
        table.add_row(cost.stage, f"{cost.parameters:,}", f"{cost.macs / 1e9:.3f}")
    table.add_section()
    parameters, macs = sum(c.parameters for c in stages), sum(c.macs for c in stages)
    table.add_row("all", f"{parameters:,}", f"{macs / 1e9:.3f}")
    Console().print(table)


def export(
    weights: Annotated[
        str,
        typer.Option(
            help="Trained weights: a file (.safetensors, .ckpt) or a name (see `hrpose weights "
            "list`; hf:owner/name@revision)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
) -> None:
    """Export weights to ONNX; the result is compared with PyTorch before it is written."""
    from hrpose.api import export
    from hrpose.models.export import DetectorReport

    report = export(weights, out)
    if isinstance(report, DetectorReport):
        typer.echo(
            f"wrote {report.path}: equal to PyTorch within {report.difference:.1e}; with weights "
            f"rounded to float16, as they are in the file, within {report.file_difference:.1e}"
        )
        return
    typer.echo(
        f"wrote {report.path}: heatmaps equal to PyTorch's within "
        f"{report.heatmap_difference:.1e} standard deviations, keypoints within "
        f"{report.keypoint_difference:.1e} px, on {report.crops} crops"
    )


def quantize(
    weights: Annotated[str, typer.Argument(help="A name, or an ONNX file of `hrpose export`.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    annotations: Annotated[Path, typer.Option(help="COCO keypoints JSON to measure the AP on.")],
    images: Images,
    calibration_annotations: Annotated[
        Path | None, typer.Option(help="COCO keypoints JSON for calibration; by default the same.")
    ] = None,
    calibration_images: Annotated[str | None, typer.Option(help="Images for calibration.")] = None,
    persons: Annotated[int, typer.Option(min=1, help="Persons used for calibration.")] = 200,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="The largest accepted drop of the AP.")
    ] = 0.01,
    flip_test: FlipTest = False,
) -> None:
    """Quantize weights to 8 bits; written only where the AP drops by at most --max-drop."""
    from rich.table import Table

    from hrpose import weights as store
    from hrpose.evaluation.quantize import quantize

    if (calibration_annotations is None) != (calibration_images is None):
        raise conflict("--calibration-annotations and --calibration-images: expected both or none")
    calibration = (
        None
        if calibration_annotations is None or calibration_images is None
        else (calibration_annotations, calibration_images)
    )
    report = quantize(
        store.find(weights),
        out,
        annotations,
        images,
        calibration=calibration,
        persons=persons,
        max_drop=max_drop,
        flip_test=flip_test,
    )
    table = Table(
        title=f"{weights} on {annotations.name}, ground-truth boxes, calibrated on "
        f"{report.calibrated_on} persons"
        + (" of the same set" if calibration is None else f" of {calibration[0].name}")
    )
    for name in ("", "float", "8 bits", "drop"):
        table.add_column(name, justify="left" if not name else "right")
    before, after = report.before, report.after
    for name, value in before.scores.as_dict().items():
        other = after.scores.as_dict()[name]
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    table.add_section()
    for name, value, other in zip(
        report.keypoints, before.similarity, after.similarity, strict=True
    ):
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    plain_console(100).print(table)
    typer.echo(
        f"wrote {report.path}: {report.bytes_after / 1e6:.2f} MB instead of "
        f"{report.bytes_before / 1e6:.2f}; keypoints are measured by their mean term of OKS"
    )
