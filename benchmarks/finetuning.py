"""Fine-tuning against training from scratch, on a few people.

    python -m benchmarks.finetuning PEOPLE.json IMAGES OUT --source badminton --from w16-small

For each seed, `--count` people of a `source` are drawn for training and 60 for early stopping; all
others of the source are the test set. Both trainings use the recipe of `hrpose finetune`; the one
from scratch has no weights, one learning rate for all layers, trainable BatchNorm, and no early
stopping. It prints the AP on the test set, with ground-truth boxes and the flip test.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

import hrpose
from hrpose import weights
from hrpose.data.coco import load_persons
from hrpose.models import convert
from hrpose.training import train
from hrpose.training.recipe import Data, DataSet, Recipe
from hrpose.training.train import recipe_for
from hrpose.yaml_file import checked

STOP_BY = 60
SCRATCH = [
    "weights=null",
    "optimizer.layer_decay=1",
    "training.frozen_norms=false",
    "training.early_stopping=null",
]


def split(persons: Path, source: str, count: int, seed: int, out: Path) -> None:
    """Write train.json, val.json and test.json below `out`."""
    document = json.loads(persons.read_text())
    images = {image["id"]: image for image in document["images"]}
    mine = [a for a in document["annotations"] if images[a["image_id"]].get("source") == source]
    order = np.random.default_rng(seed).permutation(len(mine))
    parts = np.split(order, [count, count + STOP_BY])
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "val", "test"), parts, strict=True):
        chosen = [mine[row] for row in rows]
        seen = {annotation["image_id"] for annotation in chosen}
        part = {
            **document,
            "images": [image for image in document["images"] if image["id"] in seen],
            "annotations": chosen,
        }
        (out / f"{name}.json").write_text(json.dumps(part))


def score(model: str | Path, folder: Path, images: Path) -> float:
    """AP on the test people."""
    return hrpose.evaluate(model, folder / "test.json", images).metrics["AP"]


def main() -> None:
    """Train, measure and print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("persons", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", default="badminton")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--from", dest="start", default="w16-small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--input-size", type=int, nargs=2, default=[96, 128])
    parser.add_argument("--only", choices=["finetuned", "scratch"])
    parser.add_argument("--set", dest="overrides", nargs="*", default=[])
    options = parser.parse_args()
    width, height = options.input_size
    found = convert.read(weights.find_start(options.start))
    scores: dict[str, list[float]] = {}
    for seed in options.seeds:
        folder = options.out.resolve() / f"seed-{seed}"
        split(options.persons, options.source, options.count, seed, folder)
        data = Data(
            train=DataSet(annotations=folder / "train.json", images=options.images.resolve()),
            val=DataSet(annotations=folder / "val.json", images=options.images.resolve()),
        )
        persons = load_persons(folder / "train.json")
        recipe = recipe_for("a", Path(options.start), found, data, persons, (width, height))
        document = recipe.model_dump(mode="json", exclude_defaults=True)
        for kind, changes in (("finetuned", []), ("scratch", SCRATCH)):
            if options.only in (None, kind):
                settings = [f"training.seed={seed}", *changes, *options.overrides]
                trained = train.train(
                    checked(json.loads(json.dumps(document)), settings, Recipe, "the recipe"),
                    Path(),
                    folder / kind,
                )
                scores.setdefault(kind, []).append(score(trained, folder, options.images))
        line = ", ".join(f"{kind} AP {values[-1]:.3f}" for kind, values in scores.items())
        print(f"seed {seed}: {line}; before {score(options.start, folder, options.images):.3f}")
    for kind, values in scores.items():
        print(f"{kind}: AP {statistics.mean(values):.3f} +- {statistics.pstdev(values):.3f}")


if __name__ == "__main__":
    main()
