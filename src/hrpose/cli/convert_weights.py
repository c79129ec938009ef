"""`hrpose convert`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import InputSize, parse_input_size
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.skeleton import Skeleton


class Form(StrEnum):
    """What to write."""

    hrpose = "hrpose"
    official = "official"


class CodecName(StrEnum):
    """See `hrpose.codec.Codec`."""

    gaussian = "gaussian"
    dark = "dark"
    udp = "udp"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A checkpoint of the official code, mmpose, timm.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[
        Form, typer.Option(help="hrpose: safetensors. official: a bare PyTorch state dict.")
    ] = Form.hrpose,
    input_size: InputSize = None,
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="coco, mpii or another shipped one (lsp-14), or a file that names the joints: "
            "COCO keypoints JSON, or YAML."
        ),
    ] = None,
    codec: Annotated[
        CodecName | None, typer.Option(help="What the heatmaps were trained for.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(min=0.1, help="The targets' sigma in heatmap pixels.")
    ] = None,
    training_data: Annotated[
        str, typer.Option(help="What they were trained on, for the passport.")
    ] = "unknown",
    licence: Annotated[str, typer.Option(help="What may be done with them.")] = "unknown",
) -> None:
    """Take over a released checkpoint, and say what was matched and what was left out.

    What a file does not say is concluded from its name and its shapes, and printed.
    """
    from hrpose.network import convert
    from hrpose.network.conclude import Known, passport_for

    expected = {Form.hrpose: (".safetensors",), Form.official: (".pth", ".pt")}[to]
    if out.suffix not in expected:
        raise UserError(f"{out}: expected a file name that ends in {' or '.join(expected)}")
    weights = convert.read(source)
    k = weights.num_keypoints
    what = "a backbone without a head" if k is None else f"{k} keypoints"
    typer.echo(f"{source}: {weights.origin}, network {weights.network}, {what}")
    typer.echo(f"  matched {len(weights.state) - weights.added} entries")
    for reason, count in weights.dropped.items():
        typer.echo(f"  dropped {count}: {reason}")
    if weights.added:
        typer.echo(f"  set {weights.added} to zero: counters of BatchNorm that nothing reads")
    known = Known(
        input_wh=parse_input_size(input_size),
        skeleton=_skeleton(skeleton),
        codec=codec.value if codec else None,
        sigma=sigma,
        training_data=training_data,
        licence=licence,
    )
    if to is Form.hrpose and k is not None:
        passport, reasons = passport_for(weights, source, known)
        for reason in reasons:
            typer.echo(f"  {reason}")
        convert.write_hrpose(out, weights, passport)
    elif known != Known():
        raise UserError(f"{out}: will have no passport; leave out the options that describe it")
    elif to is Form.hrpose:
        convert.write_hrpose(out, weights, None)
    else:
        convert.write_official(out, weights)
    use = "; a recipe can start from it (weights: ...)" if k is None else ""
    typer.echo(f"wrote {out}{use}")


def _skeleton(name: str | None) -> "Skeleton | None":
    from hrpose.data.formats.skeletons import skeleton_called
    from hrpose.skeleton import COCO_17, MPII_16

    if name is None:
        return None
    # As most papers call them.
    short = {"coco": COCO_17, "mpii": MPII_16}
    return short[name] if name in short else skeleton_called(name)
