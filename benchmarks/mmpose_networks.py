"""The networks of hrpose and of MMPose 1.3.2: names and shapes of weights, and heatmaps.

    pip download --no-deps mmpose==1.3.2
    python -m zipfile -e mmpose-1.3.2-py2.py3-none-any.whl mmpose-1.3.2
    pip install --no-deps mmcv-lite==2.1.0 mmengine==0.10.7 addict yapf termcolor
    python -m benchmarks.mmpose_networks mmpose-1.3.2 [--record tests/golden/mmpose_networks.npz]

For every row of `hrpose weights list` whose configuration MMPose has, its own code builds backbone,
neck and head from that configuration. With the same weights and images, all heatmaps are compared.
`--record` writes what tests/models/test_mmpose_networks.py and tests/weights/test_registry.py
compare with.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

from hrpose.evaluation.parity.golden import image, weight
from hrpose.models.build import build
from hrpose.models.forward import state_shapes
from hrpose.models.hrnet import Normalize
from hrpose.models.networks import NETWORKS
from hrpose.weights.registry import RELEASED, Released

# Seed of the images, and their height and width; of the rows that are recorded.
RECORDED = {
    "hrnetv2-w18-onehand10k-256x256": (1801, (64, 96)),
    "litehrnet-18-coco-256x192": (1802, (96, 64)),
    "litehrnet-30-mpii-256x256": (1803, (64, 64)),
}
# Rows of which the names and shapes alone are recorded: the official code has their heatmaps.
NAMES_RECORDED = ("w32-crowdpose-256x192", "w48-wholebody-256x192")
# Packages whose own imports need compiled operations, and modules that networks do not call.
PACKAGES = (
    "mmpose mmpose.evaluation mmpose.models mmpose.models.backbones mmpose.models.necks "
    "mmpose.models.heads mmpose.models.heads.heatmap_heads mmpose.models.losses mmpose.models.utils"
)
UNUSED = (
    "mmpose.evaluation.functional mmpose.models.utils.tta mmpose.structures mmpose.utils "
    "mmpose.utils.tensor_utils mmpose.utils.typing"
)
MODULES = (
    "losses.heatmap_loss necks.fmap_proc_neck heads.base_head heads.heatmap_heads.heatmap_head "
    "backbones.hrnet backbones.litehrnet"
)


class Theirs(nn.Module):
    """MMPose's network of a configuration."""

    def __init__(self, registry: Any, model: Any) -> None:
        super().__init__()
        model.backbone.pop("init_cfg", None)
        model.head.pop("decoder")
        self.backbone = registry.build(model.backbone)
        self.neck = registry.build(model.neck) if "neck" in model else nn.Identity()
        self.head = registry.build(model.head)

    def forward(self, images: Tensor) -> Tensor:
        heatmaps: Tensor = self.head(self.neck(self.backbone(images)))
        return heatmaps


def mmposes(folder: Path) -> Any:
    """MMPose's registry of modules, with those of top-down heatmap networks in it."""
    for name in PACKAGES.split():
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    for name in UNUSED.split():
        sys.modules[name] = MagicMock()
    for name in MODULES.split():
        module = import_module(f"mmpose.models.{name}")
        if name == "heads.base_head":
            sys.modules["mmpose.models.heads"].BaseHead = module.BaseHead  # type: ignore[attr-defined]
    return import_module("mmpose.registry").MODELS


def bare(key: str) -> str:
    """The name of a weight of MMPose in hrpose."""
    return key.removeprefix("backbone.").removeprefix("head.")


@torch.inference_mode()
def compared(row: Released, theirs: Theirs) -> tuple[int, int, float, np.ndarray[Any, Any]]:
    """The number of MMPose's weights, of those that hrpose has not or otherwise, the greatest
    difference of heatmaps in MMPose's standard deviations, and MMPose's heatmaps.
    """
    assert row.metadata is not None
    found = {bare(key): tuple(value.shape) for key, value in theirs.state_dict().items()}
    network, k = row.metadata.network, row.metadata.channels
    expected = state_shapes(NETWORKS[network], k)
    different = len(set(found.items()) ^ set(expected.items())) + (list(found) != list(expected))
    state = {key: torch.from_numpy(np.asarray(weight(key, s))) for key, s in found.items()}
    theirs.load_state_dict({key: state[bare(key)] for key in theirs.state_dict()})
    ours = build(network, k).eval()
    ours.load_state_dict(state)
    seed, sides = RECORDED.get(row.name, (0, (64, 64)))
    images = torch.from_numpy(np.stack([image(seed + number, *sides) for number in range(2)]))
    normalized = Normalize(row.metadata.mean, row.metadata.std)(images).contiguous()
    heatmaps, again = theirs(normalized).numpy(), ours(normalized).numpy()
    return len(found), different, float(np.abs(again - heatmaps).max() / heatmaps.std()), heatmaps


def main() -> None:
    """Read the command line, compare and print a line for each row."""
    parser = argparse.ArgumentParser(description="Networks compared with MMPose.")
    parser.add_argument("mmpose", type=Path, help="the unpacked wheel")
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    registry = mmposes(given.mmpose)
    read = import_module("mmengine.config").Config.fromfile
    configs = {file.stem: file for file in given.mmpose.rglob("configs/*/topdown_heatmap/**/*.py")}
    record: dict[str, np.ndarray[Any, Any]] = {}
    for row in RELEASED.values():
        if row.kind != "pose" or row.config not in configs:
            continue
        theirs = Theirs(registry, read(configs[row.config]).model).eval()
        count, different, difference, heatmaps = compared(row, theirs)
        print(f"{row.name}: {count} weights, {different} different; heatmaps {difference:.1e}")
        if row.name in (*RECORDED, *NAMES_RECORDED):
            assert row.metadata is not None
            record[f"{row.metadata.network}.state_dict"] = np.array(
                [" ".join([key, *map(str, v.shape)]) for key, v in theirs.state_dict().items()]
            )
        if row.name in RECORDED:
            assert row.metadata is not None
            record[f"{row.metadata.network}.heatmaps"] = heatmaps
    if given.record is not None:
        np.savez_compressed(given.record, **record)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
