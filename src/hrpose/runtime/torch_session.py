"""A session on PyTorch: the weights as they were trained, on the device that is there."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hrpose.network import checkpoint
from hrpose.network.preprocess import Normalise


class TorchSession:
    """A `.safetensors` or `.ckpt` file; on the GPU where there is one."""

    def __init__(self, path: Path, device: str | None = None) -> None:
        network, self.passport = checkpoint.load(path)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        normalise = Normalise(self.passport.mean, self.passport.std)
        self._model = torch.nn.Sequential(normalise, network).eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
        heatmaps: NDArray[np.float32] = self._model(images).float().cpu().numpy()
        return heatmaps
