"""What a teacher adds to the training of a small network with few labels, seed by seed.

    python -m benchmarks.distillation people/train.json people/images --out runs/distillation

Each seed trains the network twice from random weights, in equally many steps on equally many
crops: on the labeled persons alone, and on these and unlabeled ones with the teacher (`teacher:`
in the recipe, its default settings). Both are measured on the same held-out persons, of other
images than those trained on. The persons of the COCO file (only those of `--source`, if it is
given) are split by image id: the last `--held-out` images, six more before them that nobody sees
since they may show the same scene, and of the others `--labeled` spread evenly; the rest lose
their keypoints.

A run that is finished is not repeated. The table is printed and written to OUT/table.md.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import torch

from hrpose.evaluation.compare import compare
from hrpose.io import read_json, write_atomically
from hrpose.training.recipe import (
    AugmentationPart,
    CodecPart,
    Data,
    DataSet,
    Evaluation,
    Loss,
    Optimizer,
    Recipe,
    Schedule,
    Teacher,
    Training,
)
from hrpose.training.train import train

NEIGHBORS = 6
BATCH = 32


def split(given: argparse.Namespace) -> None:
    """Write labeled.json, unlabeled.json and held-out.json to OUT."""
    document = read_json(given.annotations)
    images = sorted(
        (each for each in document["images"] if given.source in (None, each.get("source"))),
        key=lambda each: each["id"],
    )
    rest, held_out = images[: -given.held_out - NEIGHBORS], images[-given.held_out :]
    step = len(rest) / given.labeled
    labeled = [rest[int(i * step)] for i in range(given.labeled)]
    chosen = {each["id"] for each in labeled}
    unlabeled = [each for each in rest if each["id"] not in chosen]
    for name, part in (("labeled", labeled), ("unlabeled", unlabeled), ("held-out", held_out)):
        ids = {each["id"] for each in part}
        own = [each for each in document["annotations"] if each["image_id"] in ids]
        if name == "unlabeled":
            own = [
                {**each, "keypoints": [0] * len(each["keypoints"]), "num_keypoints": 0}
                for each in own
            ]
        content: dict[str, Any] = {**document, "images": part, "annotations": own}
        write_atomically(given.out / f"{name}.json", json.dumps(content))


def recipe(given: argparse.Namespace, seed: int, teacher: Teacher | None) -> Recipe:
    """The same training with and without the teacher."""
    images = given.images.resolve()
    return Recipe(
        name="student",
        network=given.network,
        input_wh=(96, 128),
        data=Data(
            train=DataSet(annotations=Path("labeled.json"), images=images),
            val=DataSet(annotations=Path("held-out.json"), images=images),
        ),
        codec=CodecPart(name="udp", sigma=1.5),
        augmentation=AugmentationPart(
            scale=0.3, rotation_deg=25, half_body_probability=0.3, shift=0.03, photometric=0.5
        ),
        loss=Loss(peak=0.002),
        teacher=teacher,
        optimizer=Optimizer(name="adamw", lr=3e-3, weight_decay=0.01),
        schedule=Schedule(name="cosine", warmup_steps=50),
        training=Training(
            epochs=1,
            batch_size=BATCH,
            samples_per_epoch=given.samples,
            workers=0,
            ema_decay=0.99,
            seed=seed,
        ),
        evaluation=Evaluation(batch_size=25),
    )


def main() -> None:
    """Read the command line, train and write the table."""
    parser = argparse.ArgumentParser(description="Compare trainings with and without a teacher.")
    parser.add_argument("annotations", type=Path, help="COCO keypoints JSON")
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", help="only images of this source")
    parser.add_argument("--network", default="w16-small")
    parser.add_argument("--teacher", type=Path, default=Path("w32-small"))
    parser.add_argument("--labeled", type=int, default=400, help="images")
    parser.add_argument("--held-out", type=int, default=400, help="images")
    parser.add_argument("--samples", type=int, default=24_000, help="crops of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(1)
    split(given)
    keypoints = ("teacher.npy", "teacher.json")
    rows = []
    for seed in range(given.seeds):
        alone, taught = (given.out / f"{name}-{seed}" for name in ("without", "with"))
        if not (alone / "student.safetensors").exists():
            train(recipe(given, seed, None), given.out, alone, quiet=True)
        if not (taught / "student.safetensors").exists():
            if seed:  # they are the same for each seed
                taught.mkdir(exist_ok=True)
                for name in keypoints:
                    shutil.copyfile(given.out / "with-0" / name, taught / name)
            unlabeled = DataSet(annotations=Path("unlabeled.json"), images=given.images.resolve())
            teacher = Teacher(
                weights=given.teacher,
                unlabeled=unlabeled,
                compare_with=alone / "student.safetensors",
            )
            train(recipe(given, seed, teacher), given.out, taught, quiet=True)
        files = [taught / "comparison" / f"{name}-teacher.json" for name in ("without", "with")]
        found = compare(files[0], files[1], given.out / "held-out.json").metrics
        ap, ap50, ar = found["AP"], found["AP50"], found["AR"]
        rows.append(
            f"| {seed} | {ap.a:.4f} | {ap.b:.4f} | {ap.difference:+.4f} "
            f"({ap.low:+.4f} to {ap.high:+.4f}) | {ap50.a:.3f}, {ap50.b:.3f} "
            f"| {ar.a:.3f}, {ar.b:.3f} |"
        )
        table = [
            "| seed | AP without | AP with | difference (95 %) | AP50 without, with "
            "| AR without, with |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
        write_atomically(given.out / "table.md", "\n".join(table) + "\n")
        print("\n".join(table), flush=True)


if __name__ == "__main__":
    main()
