"""All crops decoded once into one file, and held-out persons chosen.

    python -m tools.distillation.data OUT FOLDER ...

Each FOLDER has `train.json` (COCO keypoints, one person per image) and `images/`. Images of the
JSON may have `source`, and `replaces`: the id of the image of the first folder of which they are a
sharper copy. Written to OUT:

- `pixels.bin`: the images, RGB uint8, one after the other;
- `persons.npz`: `offset` (n,) into it, `wh` (n, 2), `box` (n, 4) [x, y, w, h] in pixels,
  `keypoints` (n, 17, 3), `trust` (n,), `source` (n,), `id` (n,) of the image, and `split` (n,):
  0 for training, 1 held out, 2 unused;
- `held-out.json`: the labels of the held-out persons.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import load_persons
from hrpose.io import read_json, write_atomically

TRAIN, HELD_OUT, UNUSED = 0, 1, 2
# Of the images beside the held-out ones, as many are unused: they may show the same scene.
NEIGHBORS = 6


@dataclass(frozen=True, slots=True, eq=False)
class PackedPersons:
    """n persons, each with an image of its own; columns as in `persons.npz`."""

    pixels: NDArray[np.uint8]
    offset: NDArray[np.int64]
    wh: NDArray[np.int64]
    box: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    trust: NDArray[np.float32]
    source: NDArray[np.str_]
    id: NDArray[np.int64]
    split: NDArray[np.int8]

    @classmethod
    def load(cls, folder: Path) -> "PackedPersons":
        """Open what this module wrote; images stay on disk until they are used."""
        with np.load(folder / "persons.npz") as columns:
            return cls(np.memmap(folder / "pixels.bin", np.uint8, "r"), **columns)

    def __len__(self) -> int:
        return len(self.box)

    def image(self, person: int) -> NDArray[np.uint8]:
        """(h, w, 3) RGB."""
        w, h = self.wh[person]
        start = self.offset[person]
        return self.pixels[start : start + w * h * 3].reshape(h, w, 3)


def pack(out: Path, folders: list[Path], held_out: int) -> None:
    """Write the three files. The last `held_out` COCO images of the first folder are held out."""
    out.mkdir(parents=True, exist_ok=True)
    names = ("offset", "wh", "box", "keypoints", "trust", "source", "id")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    offset = 0
    with (out / "pixels.bin").open("wb") as file:
        for folder in folders:
            table = load_persons(folder / "train.json")
            sources = table.person_sources()
            for person in range(len(table)):
                path = folder / "images" / table.image_name(person)
                pixels = cv2.imread(str(path))
                if pixels is None:
                    raise FileNotFoundError(path)
                image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                file.write(image.tobytes())
                columns = (
                    offset,
                    (image.shape[1], image.shape[0]),
                    table.boxes[person],
                    table.keypoints[person],
                    table.trust[person],
                    sources[person].decode(),
                    table.image_ids[table.image_index[person]],
                )
                for name, value in zip(names, columns, strict=True):
                    rows[name].append(value)
                offset += image.size
    arrays = {name: np.array(values) for name, values in rows.items()}
    first, *others = (read_json(folder / "train.json") for folder in folders)
    held, unused = _splits(first["images"], [i for o in others for i in o["images"]], held_out)
    split = np.full(len(arrays["id"]), TRAIN, np.int8)
    split[np.isin(arrays["id"], sorted(unused))] = UNUSED
    split[np.isin(arrays["id"], sorted(held))] = HELD_OUT
    np.savez(out / "persons.npz", **arrays, split=split)
    labels = {
        **first,
        "images": [image for image in first["images"] if image["id"] in held],
        "annotations": [each for each in first["annotations"] if each["image_id"] in held],
    }
    write_atomically(out / "held-out.json", json.dumps(labels))


def _splits(
    first: list[dict[str, Any]], others: list[dict[str, Any]], count: int
) -> tuple[set[int], set[int]]:
    """The ids of the images that are held out, and of those that are unused because they may show
    the same: neighbors by id, sharper copies, and COCO images of the other folders of which nobody
    knows.
    """
    coco = sorted(image["id"] for image in first if image.get("source") == "coco")
    held = set(coco[-count:])
    unused = set(coco[-count - NEIGHBORS : -count])
    for image in others:
        replaced = image.get("replaces")
        if replaced in held or (image.get("source") == "coco" and not replaced):
            unused.add(image["id"])
    return held, unused


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description="Pack all crops into one file.")
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--held-out", type=int, default=400, metavar="COUNT")
    given = parser.parse_args()
    pack(given.out, given.folders, given.held_out)


if __name__ == "__main__":
    main()
