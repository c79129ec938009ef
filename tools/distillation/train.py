"""Train a small HRNet on human labels and a teacher's keypoints, on one CPU core.

    python -m tools.distillation.train RECIPE --data DATA --out RUN --weights EXPANDED
    python -m tools.distillation.train RECIPE --data DATA --out RUN --resume checkpoints

DATA is a folder of `tools.distillation.data` and `tools.distillation.teacher`. A RUN that has a
`last.ckpt` continues exactly there. Else the first form starts from the weights of
`tools.distillation.expand`, the second from a folder of `tools.distillation.checkpoint`, with the
samples that follow the ones it has seen, and a learning rate schedule of its own.

Every `--minutes`, RUN gets `last.ckpt` (exact), the two files of `tools.distillation.checkpoint`,
and a line in `log.md`; every second time with the metrics on the held-out persons.
"""

import argparse
import io
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hrpose.codec import Codec
from hrpose.geometry import transform, warp
from hrpose.io import write_atomically
from hrpose.metadata import Metadata
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, select_results
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.skeletons import COCO_17
from tools.distillation import checkpoint
from tools.distillation.data import HELD_OUT, PackedPersons
from tools.distillation.recipe import Recipe, Teacher, read_recipe
from tools.distillation.samples import SURE, Sample, Samples

STEM = ("conv1", "bn1", "conv2", "bn2", "layer1")
EVALUATION_BATCH = 25


def targets(
    codec: Codec, input_wh: tuple[int, int], samples: list[Sample], settings: Teacher
) -> tuple[Tensor, Tensor, Tensor]:
    """Target heatmaps (n, k, h, w), and the weights (n, k) of squared error and cross-entropy."""

    def column(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(s, name) for s in samples]).astype(np.float32))

    labels, weights, points, scores = map(column, ("labels", "weights", "teacher", "scores"))
    zero, labeled = torch.zeros(()), weights > 0
    human, human_inside = codec.encode(labels, labeled.float(), input_wh)
    teacher, teacher_inside = codec.encode(points, torch.ones_like(scores), input_wh)
    share = torch.where(teacher_inside > 0, settings.share, zero)
    share = torch.where(labeled, share, torch.ones(()))[..., None, None]
    aim = (1 - share) * human + share * teacher * scores[..., None, None]
    # A keypoint outside the crop has an empty heatmap, which is worth learning too.
    alone = torch.where(scores > SURE, settings.outside, zero)
    alone = torch.where(teacher_inside > 0, settings.alone, alone)
    known = torch.where(human_inside > 0, weights, settings.outside)
    squared = torch.where(labeled, known, alone)
    taught = torch.where(scores > settings.min_score, teacher_inside * scores, zero)
    crossed = torch.where(labeled, human_inside * weights, settings.alone * taught)
    return aim, squared, crossed


def distillation_loss(
    heatmaps: Tensor, aim: Tensor, squared: Tensor, crossed: Tensor, peak: float
) -> Tensor:
    """Weighted squared error, plus `peak` times the cross-entropy over the pixels of a heatmap."""
    error = (0.5 * (heatmaps - aim).square().mean((-1, -2)) * squared).mean()
    flat = aim.flatten(2)
    distribution = flat / flat.sum(-1, keepdim=True).clamp_min(1e-6)
    logarithms = (10.0 * heatmaps.flatten(2)).log_softmax(-1)
    return error - peak * ((distribution * logarithms).sum(-1) * crossed).mean()


@torch.inference_mode()
def evaluate(
    network: HRNet,
    metadata: Metadata,
    persons: PackedPersons,
    labels: Path,
    count: int | None = None,
) -> KeypointScores:
    """COCO's metrics on the (first `count`) held-out persons: labeled boxes, flip test, bfloat16.

    `labels` is `held-out.json`.
    """
    network.eval()
    codec, normalize = metadata.codec, Normalize(metadata.mean, metadata.std)
    rows = np.flatnonzero(persons.split == HELD_OUT)[:count]
    found, areas = [], []
    for part in np.array_split(rows, math.ceil(len(rows) / EVALUATION_BATCH)):
        crops = [metadata.crop(persons.box[row]) for row in part]
        direct = [warp(persons.image(row), crop) for row, crop in zip(part, crops, strict=True)]
        images = np.stack(direct)
        images = np.concatenate([images, images[:, :, ::-1]])
        inputs = normalize(torch.from_numpy(images)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            made = network(inputs).float()
        n = len(part)
        merged = codec.merge_flipped(made[:n], made[n:], COCO_17.flip_permutation)
        points, scores = codec.decode(merged)
        matrices = np.stack([crop.inverse_matrix for crop in crops])
        in_image = transform(points.numpy(), matrices)
        found.append(np.concatenate([in_image, scores.numpy()[..., None]], axis=-1))
        areas += [crop.area for crop in crops]
    ids = persons.id[rows]
    results = select_results(ids, np.concatenate(found), np.ones(len(rows)), areas)
    return evaluate_keypoints(labels, results, COCO_17.sigmas, ids.tolist())


class Run:
    """A training and its files in `out`.

    `step` and `seen` count the steps and samples of this run, `steps_before` and `seen_before`
    those of the checkpoint it started from.
    """

    def __init__(
        self, recipe: Recipe, data: Path, out: Path, weights: Path | None, resume: Path | None
    ) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self.metadata = recipe.metadata()
        self.persons = PackedPersons.load(data)
        self.samples = Samples(self.persons, np.load(data / "teacher.npy"), recipe)
        self.normalize = Normalize(self.metadata.mean, self.metadata.std)
        self.network = HRNet.from_name(recipe.network).to(memory_format=torch.channels_last)
        parameters = list(self.network.parameters())
        groups = [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": recipe.optimizer.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.optimizer.lr, fused=True)
        self.step = self.seen = self.steps_before = self.seen_before = 0
        if resume is not None:
            weights, moments = checkpoint.paths(resume, recipe.name)
            checkpoint.load_optimizer(moments, self.network, self.optimizer)
        if weights is not None:
            before = checkpoint.load_weights(weights, self.network)
            self.steps_before, self.seen_before = before
        self.averaged = {k: v.clone() for k, v in self.network.state_dict().items()}
        if (out / "last.ckpt").exists():
            self._load_exactly()

    @property
    def progress(self) -> float:
        """The part of the schedule that is done, in [0, 1]."""
        return min(1.0, self.seen / self.recipe.samples)

    @property
    def total(self) -> int:
        """All samples the weights have seen since their widening."""
        return self.seen_before + self.seen

    def rate(self) -> float:
        """The learning rate of the next step."""
        o = self.recipe.optimizer
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        warmup = min(1.0, (self.step + 1) / o.warmup_steps)
        return o.lr * warmup * (o.lr_end + (1 - o.lr_end) * cosine)

    def train_step(self) -> float:
        """One step; returns its loss."""
        r = self.recipe
        samples = [self.samples[self.total + i] for i in range(r.batch_size)]
        aim, squared, crossed = targets(self.metadata.codec, r.input_wh, samples, r.teacher)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.network.train()
        frozen = self.progress < r.freeze_stem
        for name in STEM:
            self.network.get_submodule(name).requires_grad_(not frozen).train(not frozen)
        pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
        inputs = self.normalize(pixels).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            heatmaps = self.network(inputs)
        loss = distillation_loss(heatmaps.float(), aim, squared, crossed, r.peak)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        self.step, self.seen = self.step + 1, self.seen + r.batch_size
        return loss.item()

    def _average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        names = [key for key, value in self.averaged.items() if value.is_floating_point()]
        averaged = [self.averaged[name] for name in names]
        torch._foreach_lerp_(averaged, [state[name] for name in names], 1 - decay)

    def metrics(self, count: int | None = None) -> str:
        """The metrics of the averaged weights on the held-out persons, as text."""
        network = HRNet.from_name(self.recipe.network).to(memory_format=torch.channels_last)
        network.load_state_dict(self.averaged)
        labels = self.data / "held-out.json"
        found = evaluate(network, self.metadata, self.persons, labels, count)
        return f"held-out AP {found.AP:.4f} AP50 {found.AP50:.4f} AP75 {found.AP75:.4f}"

    def save(self) -> None:
        """Write the exact checkpoint and the small one."""
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "counters": [self.step, self.seen, self.steps_before, self.seen_before],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self.out / "last.ckpt", buffer.getvalue())
        counters = (self.steps_before + self.step, self.total)
        checkpoint.save(
            self.out, self.averaged, self.network, self.optimizer, self.metadata, counters
        )

    def _load_exactly(self) -> None:
        saved = torch.load(self.out / "last.ckpt", weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averaged = saved["averaged"]
        self.step, self.seen, self.steps_before, self.seen_before = saved["counters"]

    def train(self, minutes: float, max_steps: int | None, say: Callable[[str], None]) -> None:
        """Train to the end of the schedule, or for `max_steps`."""
        say(
            f"begins at {self.total} samples, {self.progress:.3f} of the schedule: {self.metrics()}"
        )
        last = self.step + max_steps if max_steps is not None else None
        saved, saves, losses = time.monotonic(), 0, []
        while self.progress < 1 and self.step != last:
            losses.append(self.train_step())
            if (spent := time.monotonic() - saved) > 60 * minutes:
                self.save()
                saves += 1
                text = (
                    f"{self.total} samples, {self.progress:.3f} of the schedule, "
                    f"rate {self.rate():.2e}, loss {np.mean(losses):.6f}, "
                    f"{len(losses) * self.recipe.batch_size / spent:.0f} samples/s"
                )
                say(f"{text}; {self.metrics()}" if saves % 2 == 0 else text)
                saved, losses = time.monotonic(), []
        self.save()
        say(f"ends at {self.total} samples: {self.metrics()}")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train on human labels and a teacher's keypoints.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="such as samples=1000000")
    parser.add_argument("--data", type=Path, required=True, help="packed persons and teacher.npy")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", type=Path, help="initial weights, of tools.distillation.expand")
    start.add_argument("--resume", type=Path, help="folder of a small checkpoint: checkpoints")
    parser.add_argument("--minutes", type=float, default=5, help="between checkpoints")
    parser.add_argument("--max-steps", type=int, help="to try it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe(given.recipe, given.overrides)
    run = Run(recipe, given.data, given.out, given.weights, given.resume)
    with (given.out / "log.md").open("a", buffering=1, encoding="utf-8") as log:

        def say(text: str) -> None:
            log.write(f"- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")
            print(text, flush=True)

        run.train(given.minutes, given.max_steps, say)


if __name__ == "__main__":
    main()
