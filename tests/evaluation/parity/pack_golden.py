"""Writes the part of the golden vectors that the package has, from the full set.

    python tests/evaluation/parity/pack_golden.py

Everything is still compared, on fewer pixels: arrays of noise, which do not compress, are sliced.
`kept` in the JSON files has the slices.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL = Path(__file__).resolve().parents[2] / "golden"
PART = FULL.parents[1] / "src" / "hrpose" / "evaluation" / "parity" / "vectors"

EVERY = [None, None, 1]
KEPT: dict[str, dict[str, list[list[int | None]]]] = {
    "pipeline": {
        **{f"crop{i}_image": [[None, None, 4], [None, None, 4]] for i in range(8)},
        **{
            f"decode_{part}": [[0, 1, 1]]
            for part in ("heatmaps", "center", "size_px", "argmax", "image_xy", "score")
        },
        # The flip test knows nothing of rows.
        **{
            f"flip_{part}": [EVERY, EVERY, [None, None, 16]]
            for part in ("direct", "mirrored", "merged")
        },
    },
    "hrnet_w32_coco_256x192": {"heatmaps": [[0, 1, 1], [None, None, 4]]},
    "hrnet_w48_mpii_256x256": {"heatmaps": [EVERY, [None, None, 4]]},
}
COPIED = ("fakekeypoints100_ground_truth", "fakekeypoints100_results")


def packed_facts(name: str) -> Any:
    facts = json.loads((FULL / f"{name}.json").read_text())
    return {**facts, "kept": KEPT[name]} if name in KEPT else facts


def packed_arrays(name: str) -> dict[str, NDArray[Any]]:
    with np.load(FULL / f"{name}.npz") as archive:
        return {
            key: archive[key][tuple(slice(*part) for part in KEPT[name].get(key, []))]
            for key in archive
        }


def main() -> None:
    PART.mkdir(exist_ok=True)
    for name in (*KEPT, *COPIED):
        facts = json.dumps(packed_facts(name), separators=(",", ":"))
        (PART / f"{name}.json").write_text(facts + "\n")
    for name in KEPT:
        np.savez_compressed(PART / f"{name}.npz", **packed_arrays(name))
    size = sum(file.stat().st_size for file in PART.iterdir())
    print(f"{PART}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
