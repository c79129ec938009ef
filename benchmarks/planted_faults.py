"""Recall and precision of `hrpose data check` on planted faults, by kind.

    python -m benchmarks.planted_faults                      # a synthetic set, drawn here
    python -m benchmarks.planted_faults A.json IMAGES --source coco --weights w16-small

The set must be clean: findings elsewhere count as false positives. Swapped sides are found only
with `--weights`.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.planted import plant, score
from hrpose.api import load
from hrpose.quality.check import check
from hrpose.synthetic import ANIMAL, PERSON, write_dataset


def main() -> None:
    """Plant, check, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path, nargs="?")
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--each", type=int, default=100, help="faults of each kind")
    parser.add_argument("--count", type=int, default=2000, help="images of the synthetic set")
    parser.add_argument("--figure", choices=["person", "animal"], default="person")
    parser.add_argument("--source", help="only images of this source")
    parser.add_argument("--weights", help="the model that left and right are compared with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        annotations, images = options.annotations, options.images
        if annotations is None:
            figure = ANIMAL if options.figure == "animal" else PERSON
            annotations = write_dataset(folder / "clean", options.count, 77, figure=figure)
            images = annotations.parent / "images"
        if options.source is not None:
            annotations = only(annotations, options.source, folder / "some.json")
        planted = plant(annotations, images, folder / "planted", options.each, rng)
        estimator = None
        if options.weights is not None:
            estimator = load(options.weights, detector="none", flip_test=True, batch_size=64)
        report = check(
            planted.annotations,
            str(planted.images),
            against=planted.others,
            against_images=str(planted.others.with_suffix("")),
            estimator=estimator,
        )
    print(f"{report.images} images, {report.persons} people\n")
    print("| kind | planted | found | recall | precision |\n|---|---|---|---|---|")
    for row in score(planted, report):
        if row.kind == "swapped-sides" and estimator is None:
            continue
        print(
            f"| {row.kind} | {row.planted} | {row.right} | {100 * row.recall:.0f} % "
            f"| {100 * row.precision:.0f} % |"
        )
    if estimator is None:
        return
    found = {finding.annotation for finding in report.of("swapped-sides")}
    for title, whole in (("all pairs", True), ("some pairs", False)):
        own = {number for number, group in planted.groups.items() if group.whole == whole}
        print(f"\nswapped-sides, {title}: {len(own & found)} of {len(own)}")


def only(annotations: Path, source: str, out: Path) -> Path:
    """Write the images of one source, and their annotations."""
    document = json.loads(annotations.read_bytes())
    document["images"] = [e for e in document["images"] if e.get("source") == source]
    kept = {entry["id"] for entry in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
    out.write_text(json.dumps(document), encoding="utf-8")
    return out


if __name__ == "__main__":
    main()
