"""Options that commands share, and what their values mean."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hrpose.errors import UserError
from hrpose.predict import FORMATS

# The panels of the help. What has none is under "Options".
MODEL, PERSONS, RESULTS = "Model", "Person detection", "Results"
CLIPS, DATA, METERS = "Clips and cameras", "Data", "Meters"


Weights = Annotated[
    str,
    typer.Option(
        help="Weights by name (see `hrpose weights list`; hf:owner/name@revision for the Hugging "
        "Face Hub) or a file (.onnx, .safetensors, .ckpt).",
        rich_help_panel=MODEL,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Download released weights that are not here yet, without asking.",
        rich_help_panel=MODEL,
    ),
]
KnownHeight = Annotated[
    float | None,
    typer.Option(
        "--height",
        min=0.1,
        max=3,
        metavar="METERS",
        help="How tall the person is, the largest one: lengths are in meters.",
        rich_help_panel=METERS,
    ),
]
KnownDistance = Annotated[
    str | None,
    typer.Option(
        "--known",
        metavar="POINTS=METERS",
        help="Two points in pixels and their distance, as 100,400,500,400=2.5.",
        rich_help_panel=METERS,
    ),
]
FlipTest = Annotated[
    bool,
    typer.Option(
        help="Average over the image and its mirror image: more accurate, twice the work.",
        rich_help_panel=MODEL,
    ),
]
FlipTestOfFit = Annotated[
    bool,
    typer.Option(
        help="Fit for use with --flip-test: averages over the image and its mirror image.",
        rich_help_panel=MODEL,
    ),
]
FlipTestOfWeights = Annotated[
    bool,
    typer.Option(
        help="With --weights: average over the image and its mirror image.", rich_help_panel=MODEL
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        help="The person detector: auto (the best one installed), builtin, torchvision, one of "
        "`hrpose weights list`, an ONNX file, or full-image (none: each image is the box of one "
        "person).",
        rich_help_panel=PERSONS,
    ),
]
BoxThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Drop detected boxes with a lower score; by default the detector's own threshold.",
        rich_help_panel=PERSONS,
    ),
]
Covariance = Annotated[
    bool,
    typer.Option(
        "--covariance",
        help="Save the covariance of each keypoint's place too; --mark ellipses draws it.",
        rich_help_panel=RESULTS,
    ),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help="Boxes of persons instead of a detector, for images. COCO JSON: detections "
        "(file_name or image_id, bbox, score) or annotations.",
        rich_help_panel=PERSONS,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="HRPOSE_DEVICE",
        help="What runs the networks: auto, cpu, cuda, cuda:1, tensorrt, coreml, directml, "
        "openvino or openvino:GPU; `hrpose env` shows what is there.",
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        envvar="HRPOSE_PRECISION",
        help="What they compute in: auto, fp32, bf16, fp16, or int8 for eight-bit weights.",
        rich_help_panel=MODEL,
    ),
]
PrecisionOfMeasurement = Annotated[
    str,
    typer.Option(
        envvar="HRPOSE_PRECISION",
        help="What they compute in, as for `predict`; auto is fp32 here.",
        rich_help_panel=MODEL,
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Leave out persons whose pose has a lower score; by default 0.25 for detected persons "
        "and 0 where the boxes are given.",
        rich_help_panel=PERSONS,
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        help="Estimate twice, the second time in a box around the first keypoints: for loose "
        "boxes.",
        rich_help_panel=MODEL,
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder for the results.", rich_help_panel=RESULTS)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace results that are there already; by default nothing is replaced.",
        rich_help_panel=RESULTS,
    ),
]
# As in hrpose.poses, which the start of a command does not wait for.
THRESHOLD = 0.3
Threshold = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Keypoints with a lower score count as absent and are not drawn.",
        rich_help_panel=RESULTS,
    ),
]
InputSize = Annotated[
    str | None,
    typer.Option(metavar="WIDTHxHEIGHT", help="Input size of the network in pixels, as 192x256."),
]
Data = Annotated[
    Path, typer.Option(help="Folder that the data paths of the recipe are relative to.")
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Folder for checkpoints and logs; by default runs/NAME.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value of the recipe, as optimizer.lr=5e-4."
    ),
]
Category = Annotated[
    str | None,
    typer.Option(
        help="The category to read where the annotations have several with keypoints, by its name "
        "or id.",
        rich_help_panel=DATA,
    ),
]
MergeCategories = Annotated[
    bool,
    typer.Option(
        "--merge-categories",
        help="Read all categories that have the same keypoints as one.",
        rich_help_panel=DATA,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
EveryEpoch = Annotated[
    bool,
    typer.Option(
        "--every-epoch",
        help="Keep the weights of each epoch in OUT/epochs, not only the best; the size is said "
        "before the training. As --set training.keep_every_epoch=true.",
    ),
]
ResumeWithChanges = Annotated[
    bool,
    typer.Option(
        "--resume-with-changes",
        help="As --resume, with other settings or data than the training began with; noted in the "
        "metadata of the weights.",
    ),
]
Hands = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Look at each hand again with these weights of a hand, in a crop beside the wrist.",
        rich_help_panel=MODEL,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Crops in one batch.", rich_help_panel=MODEL)]
BatchSizeOfWeights = Annotated[
    int, typer.Option(min=1, help="With --weights: crops in one batch.", rich_help_panel=MODEL)
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Read the folders in a folder too.")]
BitDepth = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=16,
        help="The significant bits of images with more than 8 bits a channel, as 12 for a 12-bit "
        "camera; by default they follow from the file and its values.",
    ),
]
Coco = Annotated[Path, typer.Argument(help="COCO keypoints JSON.")]
NewFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder to write, new or empty.")
]
NewFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the images; by default they are linked.")]
_IMAGES = "Its images: a folder, images.zip or images.zip@/folder"
Annotations = Annotated[
    Path, typer.Option(metavar="FILE", help="The data set: COCO keypoints JSON.")
]
Images = Annotated[str, typer.Option(help=f"{_IMAGES}.")]
AnnotationsIfAny = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A data set: COCO keypoints JSON.")
]
ImagesIfAny = Annotated[str | None, typer.Option(help=f"{_IMAGES}.")]
ImagesBeside = Annotated[
    Path | None, typer.Option(help=f"{_IMAGES}; by default images/ beside the file.")
]
# The annotation tool has the images already; only a copy of them needs to find them.
CopyToo = Annotated[
    bool,
    typer.Option(
        "--copy", help="Copy the images too; by default only the files for the tool are written."
    ),
]
ImagesToCopy = Annotated[
    Path | None,
    typer.Option(help=f"{_IMAGES}; by default images/ beside the file; used with --copy."),
]

# What `--save` knows, and what each is.
KINDS = {
    "images": "drawn images and clips",
    **{kind: each.help for kind, each in FORMATS.items()},
    "dataset": "images and COCO annotations, for CVAT and FiftyOne",
}
Save = Annotated[
    str,
    typer.Option(
        help="What to write, separated by commas: "
        + "; ".join(f"{kind} ({what})" for kind, what in KINDS.items())
        + ".",
        rich_help_panel=RESULTS,
    ),
]
# What `--mark` knows: the words that `hrpose.draw` has for it.
MARKS = ("boxes", "ids", "scores", "names", "ellipses", "present")
Mark = Annotated[
    str,
    typer.Option(
        help=f"What to draw beside the skeletons, separated by commas: {', '.join(MARKS)}.",
        rich_help_panel=RESULTS,
    ),
]


class ColorName(StrEnum):
    """What colors tell apart in drawings: the words of `hrpose.draw`."""

    side = "side"
    person = "person"


Color = Annotated[
    ColorName,
    typer.Option(
        help="What colors tell apart: a person's left and right side, or the persons.",
        rich_help_panel=RESULTS,
    ),
]

# What `--hide` knows, as `hrpose.viz.HIDDEN`.
HIDDEN = ("faces", "heads", "bodies")
Hide = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(HIDDEN),
        help="Fill faces, heads or bodies with gray in drawn images and clips.",
        rich_help_panel=RESULTS,
    ),
]


SideBySide = Annotated[
    str | None,
    typer.Option(
        help="Other weights, whose poses are drawn beside those of --weights, for images.",
        rich_help_panel=RESULTS,
    ),
]

# How a clip is followed.
DetectEvery = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Detect persons at least this often; 0 is in every frame. In between, they are "
        "detected where poses, motion or the image say that boxes are wrong.",
        rich_help_panel=CLIPS,
    ),
]
Smooth = Annotated[
    bool, typer.Option(help="Smooth the keypoints over time.", rich_help_panel=CLIPS)
]
Show = Annotated[
    bool, typer.Option(help="Show the drawn frames in a window.", rich_help_panel=CLIPS)
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Take the whole clip into account: repair swapped left and right, fill short "
        "gaps, smooth without lag.",
        rich_help_panel=CLIPS,
    ),
]
Person = Annotated[
    str | None,
    typer.Option(
        help="With --offline: only one person; an id, largest, or the point x,y in pixels at "
        "which the person is first seen.",
        rich_help_panel=CLIPS,
    ),
]
Reconnect = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to try to reach a stream again that broke off.",
        rich_help_panel=CLIPS,
    ),
]
MaxGap = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="With --offline: the longest gap in which keypoints are interpolated.",
        rich_help_panel=CLIPS,
    ),
]
Recrop = Annotated[
    bool,
    typer.Option(
        help="With --offline: estimate a second time, in smoothed boxes; twice the work.",
        rich_help_panel=CLIPS,
    ),
]


# What `verify` compares weights with.
WeightsToVerify = Annotated[
    str | None, typer.Option(help="Weights to check too: a name or a file.", rich_help_panel=MODEL)
]
Against = Annotated[
    str | None, typer.Option(help="The original of exported --weights.", rich_help_panel=MODEL)
]
BoxesOfDataSet = Annotated[
    str, typer.Option(help="ground-truth, or a COCO detections file.", rich_help_panel=MODEL)
]
Published = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="The published AP or PCKh.", rich_help_panel=MODEL),
]
Tolerance = Annotated[
    float, typer.Option(min=0, max=1, help="The largest difference from it.", rich_help_panel=MODEL)
]


def parse_input_size(text: str | None) -> tuple[int, int] | None:
    """What `--input-size` says, as (w, h)."""
    from hrpose.metadata import MAX_SIDE

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        width, height = (int(part) for part in parts)
        fits = width and height and not width % 32 and not height % 32
        if fits and max(width, height) <= MAX_SIDE:
            return width, height
    raise UserError(
        f"--input-size {text}: expected WIDTHxHEIGHT in multiples of 32 up to {MAX_SIDE}, "
        "such as 192x256",
        code="option-invalid",
    )
