"""What every training shares."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hrpose.data.dataset import Draw, TrainingSampler
from hrpose.models.checkpoint import read_torch
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.data_module import TrainingLoader
from hrpose.training.recipe import Training
from hrpose.training.trainer import fit


class Numbers(torch.utils.data.Dataset[Tensor]):
    def __getitem__(self, draw: Draw) -> Tensor:
        return torch.ones(1)

    def __len__(self) -> int:
        return 4


class Told(L.LightningModule):
    """Its validation gives the figures that it is told, epoch by epoch."""

    def __init__(self, figures: list[float]) -> None:
        super().__init__()
        self.figures = figures
        self.line = nn.Linear(1, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.line(batch).square().mean()

    def validation_step(self, batch: Tensor) -> None:
        self.log("val/figure", self.figures[self.current_epoch], batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    def train_dataloader(self) -> TrainingLoader:
        sampler = TrainingSampler(np.ones(4), seed=0)
        return TrainingLoader(Numbers(), batch_size=2, sampler=sampler)

    val_dataloader = train_dataloader


@pytest.mark.parametrize(("figures", "epoch"), [([0.5, 0.4, 0.3], 0), ([0.5, 0.4, 0.6], 2)])
def test_the_best_stays_the_best_in_a_folder_that_moved(
    tmp_path: Path, figures: list[float], epoch: int
) -> None:
    def train(out: Path, epochs: int) -> Path:
        training = Training(epochs=epochs, batch_size=2, precision="32", ema_decay=None)
        last = last_checkpoint(out, resume=True)
        return fit(Told(figures), Data(), training, out, monitor="val/figure", resume_from=last)

    train(tmp_path / "old", 1)
    (tmp_path / "old").rename(tmp_path / "new")
    for epochs in (2, 3):
        best = train(tmp_path / "new", epochs)
    assert best == tmp_path / "new" / "checkpoints" / "best.ckpt"
    assert read_torch(best)["epoch"] == epoch
