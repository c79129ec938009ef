"""The golden vectors: results recorded from the official code, and the rules for their inputs.

The package has a part of them that covers all comparisons; the full set is in the repository
(tests/golden, whose README describes each array).
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError

NETWORKS = {"w32": "hrnet_w32_coco_256x192", "w48": "hrnet_w48_mpii_256x256"}


@dataclass(frozen=True, slots=True)
class Golden:
    """A folder of golden vectors. `is_part` where it has only a part of the full set."""

    folder: Path
    _read: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | None = None) -> "Golden":
        """The vectors in `folder`, or the package's own. Raises UserError where there are none."""
        where = folder or Path(str(resources.files("hrpose.evaluation.parity") / "vectors"))
        if not (where / "pipeline.npz").is_file():
            raise UserError(
                f"{where}: expected golden vectors (pipeline.npz), found none; they are in "
                "tests/golden of the repository",
                code="golden-missing",
            )
        return cls(where)

    @property
    def is_part(self) -> bool:
        return "kept" in self.facts("pipeline")

    def facts(self, name: str) -> Any:
        """The JSON file of this name."""
        file = f"{name}.json"
        if file not in self._read:
            try:
                self._read[file] = json.loads(self._bytes(file))
            except UserError:
                raise
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{self.folder / file}: cannot be read ({error})", code="golden-damaged"
                ) from error
        return self._read[file]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The NPZ file of this name; its arrays cannot be written to."""
        file = f"{name}.npz"
        if file not in self._read:
            content = io.BytesIO(self._bytes(file))
            try:
                with np.load(content, allow_pickle=False) as archive:
                    found = dict(archive)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise UserError(
                    f"{self.folder / file}: cannot be read ({error})", code="golden-damaged"
                ) from error
            for array in found.values():
                array.flags.writeable = False  # They are shared.
            self._read[file] = found
        arrays: dict[str, NDArray[Any]] = self._read[file]
        return arrays

    def cut(self, name: str, file: str, result: NDArray[Any]) -> NDArray[Any]:
        """The part of a full result that array `name` of `file` has."""
        kept = self.facts(file).get("kept", {}).get(name, [])
        return result[tuple(slice(*part) for part in kept)]

    def _bytes(self, file: str) -> bytes:
        try:
            return (self.folder / file).read_bytes()
        except OSError as error:
            raise UserError(
                f"{self.folder / file}: cannot be read ({error.strerror})", code="file-unreadable"
            ) from error


def image(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """The smooth test image (h, w, 3) of a seed, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    out = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            fx, fy = rng.uniform(0.005, 0.06, 2)
            phase = rng.uniform(0, 6.283)
            amplitude = rng.uniform(8, 24)
            out[..., channel] += amplitude * np.sin(fx * x + fy * y + phase)
    return np.clip(out + 128, 0, 255).round().astype(np.uint8)


def network_input(seed: int, batch: int, height: int, width: int) -> NDArray[np.float32]:
    """Normal noise (batch, 3, h, w)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, 3, height, width)).astype(np.float32)


def weight(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value of one entry of a state dict, by its name."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    noise = np.asarray(noise, np.float32)
    if name.endswith("running_var"):
        return 0.5 + np.float32(0.1) * np.abs(noise)
    if len(shape) == 4:
        return noise * np.float32(np.sqrt(2 / (shape[1] * shape[2] * shape[3])))
    if name.endswith(("running_mean", "bias")):
        return np.float32(0.1) * noise
    return 0.5 + np.float32(0.05) * noise
