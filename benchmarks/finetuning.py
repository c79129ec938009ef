"""Fine-tuning against training from scratch, on a few people.

    python -m benchmarks.finetuning PEOPLE.json IMAGES OUT --source badminton --from w16-small

For each seed, so many people of a `source` are drawn to train on and 60 to stop by; all others of
the source are the test. Both trainings have the recipe of `hrpose finetune`; the one from scratch
has no weights, one rate for all layers, BatchNorm that learns, and no early stopping. Printed is
the AP of the test people, with their boxes and the flip test.
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
from hrpose.training.finetune import recipe_for
from hrpose.training.recipe import Data, DataSet, Recipe
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
    asked = parser.parse_args()
    width, height = asked.input_size
    found = convert.read(weights.find(asked.start))
    gained: dict[str, list[float]] = {}
    for seed in asked.seeds:
        folder = asked.out.resolve() / f"seed-{seed}"
        split(asked.persons, asked.source, asked.count, seed, folder)
        data = Data(
            train=DataSet(annotations=folder / "train.json", images=asked.images.resolve()),
            val=DataSet(annotations=folder / "val.json", images=asked.images.resolve()),
        )
        persons = load_persons(folder / "train.json")
        recipe = recipe_for("a", Path(asked.start), found, data, persons, (width, height))
        document = recipe.model_dump(mode="json", exclude_defaults=True)
        for kind, changes in (("finetuned", []), ("scratch", SCRATCH)):
            if asked.only in (None, kind):
                settings = [f"training.seed={seed}", *changes, *asked.overrides]
                trained = train.train(
                    checked(json.loads(json.dumps(document)), settings, Recipe, "the recipe"),
                    Path(),
                    folder / kind,
                )
                gained.setdefault(kind, []).append(score(trained, folder, asked.images))
        line = ", ".join(f"{kind} AP {values[-1]:.3f}" for kind, values in gained.items())
        print(f"seed {seed}: {line}; as it was {score(asked.start, folder, asked.images):.3f}")
    for kind, values in gained.items():
        print(f"{kind}: AP {statistics.mean(values):.3f} +- {statistics.pstdev(values):.3f}")


if __name__ == "__main__":
    main()
