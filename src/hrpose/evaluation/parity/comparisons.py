"""Comparisons with the golden vectors and of models, and the certificate that lists them.

NumPy is always compared, PyTorch where it is installed, so it is imported only where needed. The
tolerances are those of the README of the vectors.
"""

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose import codec
from hrpose._version import __version__
from hrpose.data.coco import load_persons
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.evaluation.parity.golden import NETWORKS, Golden, image, network_input, weight
from hrpose.evaluation.predictions import GROUND_TRUTH, Progress
from hrpose.geometry import Crop, transform, warp
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.metrics.oks import oks_nms, soft_oks_nms
from hrpose.metrics.pck import pckh
from hrpose.skeletons import COCO_17
from hrpose.synthetic import render_image

if TYPE_CHECKING:
    import torch

_EXTRA = "needs hrpose[train]"
# The libraries that compute, whose versions the certificate has.
_LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "onnxruntime",
    "torch",
    "faster-coco-eval",
    "safetensors",
    "scipy",
)

# Rounding moves a keypoint where two pixels of a heatmap are nearly equal, which may happen rarely.
_MOVED_PX, _MOVED_SHARE = 0.1, 1e-3
_COMPARED_PERSONS = 256

# The metrics of COCO's example by COCO's own evaluator.
COCO_EXAMPLE = {
    "AP": 0.372,
    "AP50": 0.636,
    "AP75": 0.348,
    "APM": 0.384,
    "APL": 0.386,
    "AR": 0.514,
    "AR50": 0.734,
    "AR75": 0.504,
    "ARM": 0.508,
    "ARL": 0.522,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: the greatest `difference` of a result `on` a library, in `unit`."""

    what: str
    on: str
    difference: float
    tolerance: float
    unit: str = ""

    @property
    def equal(self) -> bool:
        # False for NaN.
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Certificate:
    """The comparisons of one run; `not_run` has those that were not possible, with the reason."""

    checks: tuple[Check, ...]
    not_run: tuple[tuple[str, str], ...] = ()

    @property
    def equal(self) -> bool:
        return bool(self.checks) and all(check.equal for check in self.checks)

    def to_json(self) -> str:
        return json.dumps(
            {
                "equal": self.equal,
                "hrpose": __version__,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "processor": platform.processor() or platform.machine(),
                "libraries": library_versions(),
                "checks": [
                    {
                        "what": check.what,
                        "on": check.on,
                        # NaN and infinity are no JSON.
                        "difference": check.difference if check.difference < 1e300 else None,
                        "tolerance": check.tolerance,
                        "unit": check.unit,
                        "equal": check.equal,
                    }
                    for check in self.checks
                ],
                "not_run": [{"what": what, "why": why} for what, why in self.not_run],
            },
            indent=2,
        )


def library_versions() -> dict[str, str]:
    """The versions of the libraries that compute, those that are installed."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, slots=True)
class Arrays:
    """An array library: its name, and the conversions from NumPy and back."""

    name: str
    to: Callable[[NDArray[Any]], Any]
    back: Callable[[Any], NDArray[Any]]


NUMPY = Arrays("numpy", np.array, np.asarray)


def difference(found: Any, expected: Any) -> float:
    """The greatest difference of two arrays; infinite where their shapes differ."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return np.inf
    return float(np.abs(a - b).max(initial=0))


def check_crops(golden: Golden) -> Iterator[Check]:
    """Crops of boxes, with and without rotation, and the warped images."""
    numbers = golden.arrays("pipeline")
    there, back, sizes, pixels = [], [], [], []
    for i, facts in enumerate(golden.facts("pipeline")["crops"]):
        crop = Crop.from_box(
            facts["box_xywh"], tuple(facts["input_wh"]), rotation_deg=facts["rotation_deg"]
        )
        there.append(difference(crop.matrix, numbers[f"crop{i}_matrix"]))
        back.append(difference(crop.inverse_matrix, numbers[f"crop{i}_inverse"]))
        recorded = [*numbers[f"crop{i}_center"], *numbers[f"crop{i}_size_px"]]
        sizes.append(difference([*crop.center, *crop.size], recorded))
        warped = warp(image(facts["picture_seed"], *facts["image_hw"]), crop)
        name = f"crop{i}_image"
        levels = golden.cut(name, "pipeline", warped).astype(int) - numbers[name]
        pixels.append(float((np.abs(levels) > 2).mean()))
    yield Check("crops: center and size", "numpy", max(sizes), 1e-3, "px")
    yield Check("crops: image to input", "numpy", max(there), 1e-4)
    yield Check("crops: input to image", "numpy", max(back), 1e-4)
    yield Check("warps: pixels off by over 2 levels", "opencv", max(pixels), 1e-3, "of all")


def check_heatmaps(golden: Golden, arrays: Arrays) -> Iterator[Check]:
    """Targets, decoding and the flip test."""
    numbers, on = golden.arrays("pipeline"), arrays.name
    for size, input_wh in (("256x192", (192, 256)), ("384x288", (288, 384))):
        keypoints, visible = (numbers[f"target_{size}_{part}"] for part in ("joints", "visible"))
        maps, weights = codec.encode(
            arrays.to(keypoints),
            arrays.to(visible),
            (input_wh[0] // 4, input_wh[1] // 4),
            codec.sigma_for(input_wh),
        )
        weighted = arrays.back(weights) * np.asarray(COCO_17.weights, np.float32)
        off = max(
            difference(arrays.back(maps), numbers[f"target_{size}_heatmaps"]),
            difference(weighted, numbers[f"target_{size}_weights"]),
        )
        yield Check(f"targets {size}", on, off, 1e-5)

    points, scores = codec.decode(arrays.to(numbers["decode_heatmaps"]))
    height, width = numbers["decode_heatmaps"].shape[-2:]
    crops = zip(numbers["decode_center"], numbers["decode_size_px"], strict=True)
    matrices = [
        Crop(
            (float(center[0]), float(center[1])), (float(size[0]), float(size[1])), (width, height)
        ).inverse_matrix
        for center, size in crops
    ]
    in_image = transform(arrays.back(points), np.stack(matrices))
    yield Check(
        "decoding: points in the image",
        on,
        difference(in_image, numbers["decode_image_xy"]),
        1e-3,
        "px",
    )
    found = difference(arrays.back(scores), numbers["decode_score"])
    yield Check("decoding: scores", on, found, 1e-5)
    merged = codec.merge_flipped(
        arrays.to(numbers["flip_direct"]),
        arrays.to(numbers["flip_mirrored"]),
        COCO_17.flip_permutation,
    )
    found = difference(arrays.back(merged), numbers["flip_merged"])
    yield Check("flip test", on, found, 1e-5)


def check_metrics(golden: Golden) -> Iterator[Check]:
    """OKS-NMS and PCKh."""
    numbers = golden.arrays("pipeline")
    for what, suppress, threshold, name in (
        ("OKS-NMS at 0.9", oks_nms, 0.9, "keep_at_0p9"),
        ("OKS-NMS at 0.5", oks_nms, 0.5, "keep_at_0p5"),
        ("soft OKS-NMS at 0.9", soft_oks_nms, 0.9, "soft_keep_at_0p9"),
    ):
        wrong = 0
        for group, expected in enumerate(golden.facts("pipeline")["nms"]):
            poses, areas, ranks = (
                numbers[f"nms{group}_{part}"] for part in ("keypoints", "area", "score")
            )
            wrong += suppress(poses, areas, ranks, threshold).tolist() != expected[name]
        yield Check(what, "numpy", wrong, 0, "groups")
    scores = pckh(*(numbers[f"pckh_{part}"] for part in ("pred", "gt", "missing", "headboxes")))
    expected = golden.facts("pipeline")["pckh"]
    named = scores.as_dict() | {"Mean": scores.mean, "Mean@0.1": scores.mean_at_01}
    found = difference([named[name] for name in expected], list(expected.values()))
    yield Check("PCKh", "numpy", found, 1e-6, "points")


def check_coco(golden: Golden) -> Iterator[Check]:
    """COCO's ten metrics of COCO's own example. Needs faster-coco-eval."""
    scores = evaluate_keypoints(
        golden.facts("fakekeypoints100_ground_truth"), golden.facts("fakekeypoints100_results")
    )
    found = scores.as_dict()
    off = max(abs(found[name] - value) for name, value in COCO_EXAMPLE.items())
    # The example's metrics are known to three digits.
    yield Check("COCO's ten metrics, its example", "faster-coco-eval", off, 5e-4)


def devices() -> "list[torch.device]":
    """The CPU, and a CUDA GPU where there is one; Apple's (MPS) is not compared."""
    import torch

    found = [torch.device("cpu")]
    if torch.cuda.is_available():
        found.append(torch.device("cuda"))
    return found


def check_device(golden: Golden, device: "torch.device") -> Iterator[Check]:
    """Heatmaps, losses and networks on one device, in full float32 precision."""
    import torch

    name = f"torch {device.type}"
    arrays = Arrays(
        name, lambda array: torch.tensor(array, device=device), lambda tensor: tensor.cpu().numpy()
    )
    yield from check_heatmaps(golden, arrays)
    yield from check_losses(golden, arrays)
    for network in NETWORKS:
        yield from check_network(golden, network, device)


def check_losses(golden: Golden, arrays: Arrays) -> Iterator[Check]:
    """The mean squared error, with and without keypoint weights, and hard keypoint mining."""
    from hrpose.training.module import ohkm, weighted_mse

    numbers, facts = golden.arrays("pipeline"), golden.facts("pipeline")
    targets, weights = (numbers[f"target_256x192_{part}"][:3] for part in ("heatmaps", "weights"))
    output, target, weight_ = (arrays.to(a) for a in (numbers["loss_output"], targets, weights))
    for what, found, name in (
        ("loss: MSE", weighted_mse(output, target, weight_), "loss_mse"),
        (
            "loss: MSE, equal weights",
            weighted_mse(output, target, arrays.to(np.ones_like(weights))),
            "loss_mse_unweighted",
        ),
        ("loss: OHKM, top 8", ohkm(output, target, weight_, top=8), "loss_ohkm_top8"),
    ):
        yield Check(what, arrays.name, difference(float(found), facts[name]), 1e-5)


def check_network(golden: Golden, name: str, device: "torch.device") -> Iterator[Check]:
    """A network: keys and shapes of its weights, and its output for weights and input by rule."""
    import torch

    from hrpose.models.hrnet import HRNet

    file = NETWORKS[name]
    facts = golden.facts(file)
    with torch.device("meta"):  # The initial weights are not used.
        network = HRNet.from_name(name, facts["num_keypoints"]).eval()
    state = {
        key: torch.from_numpy(weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    entries = [[key, list(value.shape)] for key, value in state.items()]
    on = f"torch {device.type}"
    wrong = sum(a != b for a, b in zip_longest(entries, _entries(facts["state_dict"])))
    yield Check(f"network {name}: keys and shapes", on, wrong, 0, "entries")
    network.load_state_dict(state, assign=True)
    images = network_input(facts["input_seed"], facts["batch"], *facts["input_hw"])
    # A GPU may round the inputs of convolutions to TensorFloat-32; here float32 is compared.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        heatmaps = network.to(device)(torch.from_numpy(images).to(device)).cpu().numpy()
    expected = golden.arrays(file)["heatmaps"]
    found = difference(golden.cut("heatmaps", file, heatmaps), expected)
    spread = float(np.std(expected))
    yield Check(f"network {name}: heatmaps", on, found / spread, 1e-4, "std")


def _entries(recorded: Any) -> list[list[Any]]:
    pairs = recorded.items() if isinstance(recorded, dict) else recorded
    return [[key, list(shape)] for key, shape in pairs]


def verify(golden: Golden) -> Certificate:
    """Compare with the golden vectors: NumPy, and PyTorch, if installed, on the CPU and on CUDA."""
    checks: list[Check] = []
    not_run: list[tuple[str, str]] = []
    checks += check_crops(golden)
    checks += check_heatmaps(golden, NUMPY)
    checks += check_metrics(golden)
    try:
        checks += check_coco(golden)
    except ModuleNotFoundError:
        not_run.append(("COCO's ten metrics", _EXTRA))
    try:
        available = devices()
    except ModuleNotFoundError:
        not_run.append(("PyTorch: targets, decoding, flip test, losses, networks", _EXTRA))
        return Certificate(tuple(checks), tuple(not_run))
    for device in available:
        checks += check_device(golden, device)
    if len(available) == 1:
        not_run.append(("PyTorch on a GPU", "no CUDA device"))
    return Certificate(tuple(checks), tuple(not_run))


def primary_metric(
    estimator: PoseEstimator,
    annotations: Path,
    images: str,
    boxes: str = GROUND_TRUTH,
    progress: Progress | None = None,
) -> tuple[str, float]:
    """Name and value in [0, 1] of the primary metric: COCO's AP, MPII's mean PCKh, or PCK.

    Raises UserError where the data set has no labels.
    """
    report = evaluate(estimator, annotations, images, boxes, progress=progress)
    if report.primary is None:
        raise UserError(
            f"{annotations}: expected labels to compare with, found none", code="labels-missing"
        )
    if report.primary == "AP":
        return f"AP, boxes: {report.boxes}", report.value
    return report.primary, report.value / 100


def compare_models(
    name: str, found: PoseEstimator, origin: PoseEstimator, images: list[InputImage]
) -> Iterator[Check]:
    """Keypoints and scores of two forms of one model on the same persons.

    Raises UserError where the metadata differ in what they say of inputs and outputs.
    """
    ours, theirs = found.metadata, origin.metadata
    for part in ("network", "input_wh", "skeleton", "codec", "padding", "mean", "std"):
        a, b = getattr(ours, part), getattr(theirs, part)
        if a != b:
            raise UserError(
                f"{name}: expected another form of the same model, found {part} {a} instead of {b}",
                code="models-differ",
            )
    moved, scores = [], []
    pairs = zip(found.stream(images), origin.stream(images), strict=True)
    for (given, one), (_, other) in pairs:
        matrices = np.stack([ours.crop(box).matrix for box in given.boxes])
        a, b = (transform(poses.keypoints[..., :2], matrices) for poses in (one, other))
        moved.append(np.linalg.norm(a - b, axis=-1).ravel())
        scores.append(np.abs(one.keypoints[..., 2] - other.keypoints[..., 2]).ravel())
    distances = np.concatenate(moved)
    share = float((distances > _MOVED_PX).mean())
    yield Check(
        f"keypoints: moved by over {_MOVED_PX} input px", name, share, _MOVED_SHARE, "of all"
    )
    median = float(np.median(distances))
    yield Check("keypoints: median distance", name, median, 1e-3, "input px")
    yield Check("keypoints: scores", name, float(np.concatenate(scores).max()), 1e-3)


def persons_of(annotations: Path, images: str) -> list[InputImage]:
    """The images of the first few hundred persons of a data set, with their boxes.

    Raises UserError where there are none.
    """
    table = load_persons(annotations)
    if not len(table):
        raise UserError(
            f"{annotations}: expected persons with labeled keypoints, found none",
            code="labels-missing",
        )
    source = ImageFiles(images)
    rows = table.image_index[:_COMPARED_PERSONS]
    return [
        InputImage.of(
            source.read(table.file_names[row].decode()), table.boxes[: len(rows)][rows == row]
        )
        for row in np.unique(rows)
    ]


def synthetic_persons() -> list[InputImage]:
    """Images of synthetic persons, for use without a data set."""
    rng = np.random.default_rng(0)
    rendered = (render_image(rng) for _ in range(16))
    return [InputImage.of(each.image, each.boxes) for each in rendered]
