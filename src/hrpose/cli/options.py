"""Options that several commands share."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from hrpose.errors import UserError

Weights = Annotated[
    str,
    typer.Option(
        help="A name (w16-small, one of `hrpose weights list`, hf:owner/name@revision) or a file "
        "(.onnx, .safetensors, .ckpt)."
    ),
]
FlipTest = Annotated[
    bool,
    typer.Option(help="Average over the picture and its mirror image: better, and twice the work."),
]
FlipTestOfWeights = Annotated[
    bool,
    typer.Option(help="With --weights: average over the picture and its mirror image."),
]
Detector = Annotated[
    str,
    typer.Option(
        help="Who finds people: auto (the best that is here), finder (inside the package), whole "
        "(the picture is one person's box), torchvision, yolox-s and others of `hrpose weights "
        "list`, or an ONNX file."
    ),
]
BoxThreshold = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Boxes with a lower score are left out; without it the detector's own."
    ),
]
Refine = Annotated[
    bool,
    typer.Option(help="Look twice, the second time around the first keypoints: for loose boxes."),
]
# As in hrpose.poses, which the start of a command does not wait for.
THRESHOLD = 0.3
Threshold = Annotated[
    float,
    typer.Option(min=0, max=1, help="Joints with a lower score are absent: they are not drawn."),
]
InputSize = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels, such as 192x256.")
]
Data = Annotated[Path, typer.Option(help="The folder that the recipe's data paths start from.")]
RunFolder = Annotated[Path | None, typer.Option(help="Checkpoints and logs; by default runs/NAME.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: optimizer.lr=5e-4."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Crops that go through the network at once.")]
BatchSizeOfWeights = Annotated[
    int, typer.Option(min=1, help="With --weights: crops that go through the network at once.")
]
Coco = Annotated[Path, typer.Argument(help="COCO keypoints JSON.")]
NewFolder = Annotated[Path, typer.Argument(help="The folder to write, new or empty.")]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the pictures; else they are linked to.")]
_PICTURES = "Its pictures: a folder, images.zip or images.zip@/folder"
Images = Annotated[str, typer.Option(help=f"{_PICTURES}.")]
ImagesIfAny = Annotated[str | None, typer.Option(help=f"{_PICTURES}.")]
ImagesBeside = Annotated[
    Path | None, typer.Option(help=f"{_PICTURES}; by default images beside the file.")
]
# Where the tool that gets the files has the pictures, and only a copy of them needs to find them.
CopyToo = Annotated[
    bool,
    typer.Option("--copy", help="Copy the pictures too; else only the tool's files are written."),
]
ImagesToCopy = Annotated[
    Path | None,
    typer.Option(help=f"{_PICTURES}; by default images beside the file; used with --copy."),
]

# What `--save` knows, and what each is.
KINDS = {
    "pictures": "drawn pictures",
    "coco": "poses.json, COCO keypoint results",
    "csv": "poses.csv, one row per joint",
    "parquet": "poses.parquet, the same (needs pyarrow)",
    "dataset": "dataset/, the pictures and COCO annotations, for CVAT and FiftyOne",
}
Save = Annotated[
    str,
    typer.Option(
        help="What to write, commas between: "
        + "; ".join(f"{kind} ({what})" for kind, what in KINDS.items())
    ),
]
# What `--mark` knows: the words that `hrpose.draw` has for it.
MARKS = ("boxes", "ids", "scores", "names")
Mark = Annotated[
    str,
    typer.Option(help=f"What to draw beside the skeletons, commas between: {', '.join(MARKS)}."),
]


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter, on the command line or by an environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def chosen(option: str, words: str, known: Collection[str]) -> frozenset[str]:
    """The words, between commas, that an option was given. Raises UserError for unknown ones."""
    found = frozenset(word.strip() for word in words.split(",") if word.strip())
    if not found <= set(known):
        raise UserError(
            f"{option}: expected some of {', '.join(known)} with commas between, found '{words}'"
        )
    return found


def parse_input_size(text: str | None) -> tuple[int, int] | None:
    """What `--input-size` says, as (w, h)."""
    from hrpose.passport import LARGEST_SIDE

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        width, height = (int(part) for part in parts)
        fits = width and height and not width % 32 and not height % 32
        if fits and max(width, height) <= LARGEST_SIDE:
            return width, height
    raise UserError(
        f"--input-size {text}: expected WIDTHxHEIGHT in multiples of 32 up to {LARGEST_SIDE}, "
        "such as 192x256"
    )
