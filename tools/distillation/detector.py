"""Train the person detector on labeled boxes, a teacher's boxes and mosaics, on one CPU core.

    python -m tools.distillation.detector label DATA --teacher DETECTOR
    python -m tools.distillation.detector train DATA BOXED --out RUN --weights START
    python -m tools.distillation.detector release RUN BOXED --out person-detector.onnx

DATA is a folder of `tools.distillation.data`: crops of one labeled person each. `label` adds
`boxes.npz`, the teacher's boxes in them. BOXED has `train.json` (COCO, every person with a box) and
`images/`; every twentieth image is held out. Every `--minutes`, RUN gets `last.ckpt`, from which
the same command continues exactly, and a line in `log.md`; with other `--frames`, the same training
goes on with other settings. A network wider than START's begins with what START computes.
`release` makes the averaged weights the file that ships, with scores and threshold fitted on the
held-out images, and writes RUN/averaged.safetensors, from which another training can start.
"""

import argparse
import io
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hrpose.data.augmentation import photometric
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.data.persons import BoxTable
from hrpose.detection import person_detector as maps
from hrpose.detection.person_detector import Targets, open_detector
from hrpose.geometry import Crop, clip_boxes, iou, transform_boxes, warp
from hrpose.io import write_atomically
from hrpose.metadata import Confidence, DetectorMetadata
from hrpose.metrics.calibration import fit_confidence
from hrpose.metrics.coco import BoxScores, evaluate_boxes, matched
from hrpose.models import checkpoint, convert
from hrpose.models.checkpoint import is_folded, unfold
from hrpose.models.export import export_detector
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.training.person_detector.dataset import draw_frame, targets_of
from hrpose.training.person_detector.train import (
    BOX_WEIGHT,
    TALL,
    box_loss,
    build_network,
    center_loss,
)
from hrpose.training.recipe import Framing
from tools.distillation.data import PackedPersons
from tools.distillation.expand import expand

NETWORK = "w16-small"
SEED = 31
HELD_OUT_EVERY = 20
# Of the teacher's boxes, those above the first score are persons, those between the two are neither
# persons nor background.
SURE, UNSURE = 0.35, 0.12
# Sources of crops whose images are among the boxed ones, or that the teacher saw badly.
LEFT_OUT = ("coco", "buffy")
# Of the frames: mosaics of four images; frames of one boxed image; the rest are crops.
MOSAICS, BOXED = 0.55, 0.39
CLOSE = Framing(zoom=(0.5, 1.2), close=0.35, photometric=0.4)
AWAY = Framing(zoom=(0.9, 3.0), close=0.3, photometric=0.4)
NO_BOXES = np.zeros((0, 4))


class Boxed(NamedTuple):
    """An image (h, w, 3) RGB, its persons (n, 4) and the boxes that do not count (m, 4)."""

    image: NDArray[np.uint8]
    persons: NDArray[np.float64]
    ignored: NDArray[np.float64]


@dataclass
class Frames:
    """Frame `n` of the training, by its number alone: so that a training continues exactly."""

    table: BoxTable
    files: ImageFiles
    crops: PackedPersons
    side: int
    cache: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.usable = np.flatnonzero(~np.isin(self.crops.source, LEFT_OUT))

    def load_teacher(self, path: Path) -> None:
        """Read the teacher's boxes, sorted by their crop."""
        with np.load(path) as rows:
            order = np.argsort(rows["index"], kind="stable")
            self.teacher = rows["boxes"][order].astype(np.float64)
            self.starts = np.searchsorted(rows["index"][order], np.arange(len(self.crops) + 1))

    def boxed(self, row: int) -> Boxed:
        """An image in which every person is labeled."""
        if row not in self.cache:
            self.cache[row] = self.files.read(self.table.file_names[row])
        return Boxed(self.cache[row], self.table.boxes[row], NO_BOXES)

    def crop(self, row: int) -> Boxed:
        """A crop with its labeled person, and others as the teacher found them."""
        rows = self.teacher[self.starts[row] : self.starts[row + 1]]
        boxes, scores = rows[:, :4], rows[:, 4]
        own = self.crops.box[row]
        sure = boxes[scores >= SURE]
        if not len(sure) or iou(sure, own[None])[:, 0].max() < 0.5:
            sure = np.concatenate([sure, own[None]])
        unsure = boxes[(scores >= UNSURE) & (scores < SURE)]
        if len(unsure):
            unsure = unsure[iou(unsure, sure).max(1) < 0.4]
        return Boxed(self.crops.image(row), sure, unsure)

    def any(self, rng: np.random.Generator) -> Boxed:
        if rng.uniform() < 0.5:
            return self.boxed(int(rng.integers(len(self.table))))
        return self.crop(int(self.usable[rng.integers(len(self.usable))]))

    def mosaic(self, rng: np.random.Generator) -> Boxed:
        """Four images around a random point, each scaled so that it fills its quarter."""
        side = self.side
        x, y = int(side * rng.uniform(0.3, 0.7)), int(side * rng.uniform(0.3, 0.7))
        canvas = np.zeros((side, side, 3), np.uint8)
        persons: list[NDArray[np.float64]] = []
        ignored: list[NDArray[np.float64]] = []
        quarters = ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side))
        for left, top, right, bottom in quarters:
            image, *both = self.any(rng)
            (h, w), (wide, high) = image.shape[:2], (right - left, bottom - top)
            scale = max(wide / w, high / h) * np.exp(rng.uniform(0, 0.5))
            view = np.array([wide, high]) / scale
            free = (w - view[0], h - view[1])
            corner = [rng.uniform(0, length) if length > 0 else 0 for length in free]
            center = (corner[0] + view[0] / 2, corner[1] + view[1] / 2)
            crop = Crop(center, tuple(view), (wide, high), mirrored=bool(rng.uniform() < 0.5))
            canvas[top:bottom, left:right] = warp(image, crop)
            for boxes, kept in zip(both, (persons, ignored), strict=True):
                if not len(boxes):
                    continue
                whole = transform_boxes(np.asarray(boxes, float), crop.matrix)
                seen = clip_boxes(whole, (wide, high))
                share = seen[:, 2:].prod(1) / np.maximum(whole[:, 2:].prod(1), 1e-9)
                seen[:, :2] += left, top
                visible = (seen[:, 2:] > 2).all(1)
                kept += list(seen[visible & (share >= 0.3)])
                ignored += list(seen[visible & (share < 0.3)])
        return Boxed(canvas, np.reshape(persons, (-1, 4)), np.reshape(ignored, (-1, 4)))

    def frame(self, n: int) -> tuple[NDArray[np.uint8], Targets, NDArray[np.float32]]:
        """Its pixels, targets, and the cells that count."""
        rng = np.random.default_rng((SEED, n))
        kind, wh = rng.uniform(), (self.side, self.side)
        if kind < MOSAICS:
            image, persons, ignored = self.mosaic(rng)
        else:
            close = kind < MOSAICS + BOXED
            if close:
                given = self.boxed(int(rng.integers(len(self.table))))
            else:
                given = self.crop(int(self.usable[rng.integers(len(self.usable))]))
            size = (given.image.shape[1], given.image.shape[0])
            crop = draw_frame(size, given.persons, wh, CLOSE if close else AWAY, rng)
            image = warp(given.image, crop)
            persons, ignored = (transform_boxes(b, crop.matrix) if len(b) else b for b in given[1:])
        targets, counts = targets_of(persons, wh, True)
        for x, y, w, h in clip_boxes(ignored, wh) / maps.STRIDE if len(ignored) else ():
            if w > 0 and h > 0:
                cells = np.s_[int(y) : math.ceil(y + h), int(x) : math.ceil(x + w)]
                counts[cells][targets.weights[cells] == 0] = 0
        return photometric(image, 0.4, rng), targets, counts


def batch_of(frames: Frames, first: int, size: int) -> list[torch.Tensor]:
    """Images, heat, distances, weights and counts of `size` frames."""
    rows = [frames.frame(n) for n in range(first, first + size)]
    columns = [[t.heat, t.distances, t.weights, counts] for _, t, counts in rows]
    stacked = [np.stack(values) for values in zip(*columns, strict=True)]
    return [torch.from_numpy(v) for v in (np.stack([image for image, _, _ in rows]), *stacked)]


# An image's true boxes, decoded boxes and their peaks.
Decoded = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


class HeldOut:
    """The held-out images, and what a network finds in them."""

    def __init__(self, boxed: Path) -> None:
        table = read_annotations(boxed / "train.json").boxes()
        self.train, held_out = table.held_out(HELD_OUT_EVERY)
        self.files = ImageFiles(boxed / "images")
        self.images = [self.files.read(name) for name in held_out.file_names]
        self.boxes = held_out.boxes

    @torch.inference_mode()
    def decoded(self, network: HRNet, side: int, half: bool) -> list[Decoded]:
        """Of each image, resized to `side` pixels; with bfloat16 if `half`."""
        metadata = DetectorMetadata(NETWORK, side)
        normalize = Normalize(metadata.mean, metadata.std)
        rows = []
        for image, boxes in zip(self.images, self.boxes, strict=True):
            pixels, crop = maps.resize(image, side)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                inputs = normalize(torch.from_numpy(pixels[None]))
                outputs = network.eval()(inputs.contiguous(memory_format=torch.channels_last))
            logits, distances = maps.read_maps(outputs.float())
            found = maps.decode(torch.sigmoid(logits)[0].numpy(), distances[0].numpy())
            rows.append((transform_boxes(boxes, crop.matrix), *found))
        return rows


def scores_of(rows: list[Decoded], side: int, confidence: Confidence) -> BoxScores:
    """Recall, precision and AP of tall persons."""
    found = [maps.persons(boxes, peaks, confidence) for _, boxes, peaks in rows]
    return evaluate_boxes(
        [true for true, _, _ in rows],
        [boxes.xywh for boxes in found],
        [boxes.scores for boxes in found],
        TALL * side,
    )


def text_of(scores: BoxScores) -> str:
    """AP, and recall and precision where they balance."""
    recall, precision = scores.at(scores.best_threshold)
    return f"AP {scores.AP:.3f}, recall {recall:.3f} at precision {precision:.3f}"


def train(given: argparse.Namespace) -> None:
    """Train until `--frames` were seen."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    held_out = HeldOut(given.boxed)
    crops = PackedPersons.load(given.data)
    frames = Frames(held_out.train, held_out.files, crops, given.frame_side)
    frames.load_teacher(given.data / "boxes.npz")
    metadata = DetectorMetadata(NETWORK, given.side)
    normalize = Normalize(metadata.mean, metadata.std)
    network, last = build_network(given.network), given.out / "last.ckpt"
    if not last.exists():
        start = convert.read(given.weights).network
        network = build_network(start, given.weights)
        if is_folded(network):
            far = 10**8  # frames that the training does not reach
            batches = (batch_of(frames, far + 8 * n, 8)[0] for n in range(32))
            unfold(network, map(normalize, batches))
        if start != given.network:
            network = expand(network, given.network, torch.Generator().manual_seed(25))
    network = network.to(memory_format=torch.channels_last)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=given.lr,
        fused=True,
    )
    average = {name: value.clone() for name, value in network.state_dict().items()}
    step, steps = 0, given.frames // given.batch
    if last.exists():
        state = torch.load(last, weights_only=True)
        network.load_state_dict(state["net"])
        optimizer.load_state_dict(state["opt"])
        average, step = state["avg"], state["step"]

    def note(text: str) -> None:
        with (given.out / "log.md").open("a") as file:
            file.write(f"- {datetime.now(UTC):%m-%d %H:%M} {step * given.batch} frames: {text}\n")

    def save() -> None:
        content = io.BytesIO()
        state = {"net": network.state_dict(), "opt": optimizer.state_dict()}
        torch.save({**state, "avg": average, "step": step}, content)
        write_atomically(last, content.getvalue())

    def measured() -> str:
        averaged = build_network(given.network).to(memory_format=torch.channels_last)
        averaged.load_state_dict(average)
        rows = held_out.decoded(averaged, given.side, half=True)
        return text_of(scores_of(rows, given.side, Confidence()))

    saved, losses = time.monotonic(), []
    first = given.begin // given.batch
    while step < steps:
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * (step - first) / (steps - first)))
            group["lr"] = given.lr * min(1, (step + 1) / 200) * cosine
        images, heat, distances, weights, counts = batch_of(frames, step * given.batch, given.batch)
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            inputs = normalize(images).contiguous(memory_format=torch.channels_last)
            outputs = network(inputs)
        logits, found = maps.read_maps(outputs.float())
        center = center_loss(logits, heat, counts)
        box = box_loss(found, distances, weights)
        (center + BOX_WEIGHT * box).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        now = network.state_dict()
        names = [name for name, value in average.items() if value.is_floating_point()]
        torch._foreach_lerp_([average[n] for n in names], [now[n] for n in names], 1 - decay)
        losses.append((center.item(), box.item()))
        if time.monotonic() - saved > 60 * given.minutes or step == steps:
            save()
            center_mean, box_mean = np.mean(losses, axis=0)
            note(f"losses {center_mean:.4f}, {box_mean:.4f}; {measured()}")
            saved, losses = time.monotonic(), []


def label(given: argparse.Namespace) -> None:
    """Write the teacher's boxes in all crops."""
    crops, detector = PackedPersons.load(given.data), open_detector(given.teacher, 0.05, 1)
    boxes, index = [], []
    for row in range(len(crops)):
        found = detector(crops.image(row))
        boxes += [[*box, score] for box, score in zip(found.xywh, found.scores, strict=True)]
        index += [row] * len(found.xywh)
    content = io.BytesIO()
    np.savez(content, boxes=np.array(boxes, np.float32), index=np.array(index, np.int32))
    write_atomically(given.data / "boxes.npz", content.getvalue())


def release(given: argparse.Namespace) -> None:
    """Write the file that ships, with confidence and threshold by the held-out images."""
    held_out = HeldOut(given.boxed)
    network = build_network(given.network)
    network.load_state_dict(torch.load(given.run / "last.ckpt", weights_only=True)["avg"])
    network.eval()
    rows = held_out.decoded(network, given.side, half=False)
    found = [maps.persons(boxes, peaks, Confidence()) for _, boxes, peaks in rows]
    right = [matched(row[0], f.xywh, f.scores) for row, f in zip(rows, found, strict=True)]
    confidence = fit_confidence(
        np.concatenate([boxes.scores for boxes in found]),
        np.concatenate([boxes.xywh for boxes in found]),
        np.concatenate(right),
    )
    scores = scores_of(rows, given.side, confidence)
    threshold = scores.best_threshold if given.threshold is None else given.threshold
    recall, precision = scores.at(threshold)
    metadata = DetectorMetadata(
        given.network,
        given.side,
        name="person-detector",
        threshold=threshold,
        confidence=confidence,
        training_data=given.training_data,
        license=given.license,
        scores={
            "held-out AP": scores.AP,
            "held-out recall": recall,
            "held-out precision": precision,
        },
    )
    weights = given.run / "averaged.safetensors"
    checkpoint.save(weights, network, metadata)
    print(export_detector(weights, given.out))
    print(f"{text_of(scores)}; threshold {threshold:.2f}: {recall:.3f} at {precision:.3f}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Train the person detector.")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("label")
    one.add_argument("data", type=Path)
    one.add_argument("--teacher", required=True)
    one.set_defaults(run_it=label)
    one = commands.add_parser("train")
    one.add_argument("data", type=Path)
    one.add_argument("boxed", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--weights", type=Path, required=True)
    one.add_argument("--network", default=NETWORK)
    one.add_argument("--frames", type=int, default=150_000)
    one.add_argument("--begin", type=int, default=0, help="frame at which the cosine begins")
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--lr", type=float, default=1e-3)
    one.add_argument("--frame-side", type=int, default=256)
    one.add_argument("--side", type=int, default=320)
    one.add_argument("--minutes", type=float, default=10)
    one.set_defaults(run_it=train)
    one = commands.add_parser("release")
    one.add_argument("run", type=Path)
    one.add_argument("boxed", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--network", default=NETWORK)
    one.add_argument("--side", type=int, default=320)
    one.add_argument("--threshold", type=float, help="by default where recall is precision")
    one.add_argument("--training-data", default="")
    one.add_argument("--license", default="")
    one.set_defaults(run_it=release)
    given = parser.parse_args()
    given.run_it(given)


if __name__ == "__main__":
    main()
