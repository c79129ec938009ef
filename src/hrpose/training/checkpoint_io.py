"""How Lightning's checkpoints reach the disk and come back."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from hrpose.files import write_atomically
from hrpose.network.torch_file import read_torch


class WholeFiles(TorchCheckpointIO):
    """A training killed while it writes leaves the checkpoint before; no file's code is run.

    Lightning's own way writes to the system's temporary folder and moves the file from there,
    which is a copy where that folder is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors on the CPU and plain values; Lightning moves them where they belong."""
        loaded: dict[str, Any] = read_torch(Path(path))
        return loaded
