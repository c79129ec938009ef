"""A network in training, whatever it learns: its input, what stays as it is, its optimiser."""

from typing import Any, Self

import lightning as L
import torch
from torch import Tensor, nn

from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.network.hrnet import HRNet
from hrpose.network.preprocess import Normalise
from hrpose.training.finder.recipe import FinderRecipe
from hrpose.training.optimizers import optimizers
from hrpose.training.recipe import AnyTraining, Recipe


class NetworkModule(L.LightningModule):
    """Trains `network` by `recipe` on pictures normalised by its `passport`."""

    recipe: Recipe | FinderRecipe
    passport: Metadata | DetectorMetadata

    def __init__(
        self,
        network: HRNet,
        recipe: Recipe | FinderRecipe,
        passport: Metadata | DetectorMetadata,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.passport = passport
        self.normalise = Normalise(passport.mean, passport.std)
        if recipe.training.freeze_stem:
            stem(network).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.recipe.training.freeze_stem:
            stem(self.network).eval()  # so that its running statistics stay, too
        return self

    def outputs(self, images: Tensor) -> Tensor:
        """What the network makes of uint8 pictures (n, h, w, 3), in float32."""
        inputs = self.normalise(images)
        if self.recipe.training.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        made: Tensor = self.network(inputs).float()
        return made

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        return optimizers(self, recipe.optimizer, recipe.schedule, recipe.training)


def stem(network: HRNet) -> nn.ModuleList:
    """All layers before stage 2: the stem of two convolutions, and stage 1.

    They compute at the highest resolutions, and what they find (edges, textures) serves any joints.
    Without them a core takes half as many samples again in the same time (docs/models).
    """
    return nn.ModuleList([network.conv1, network.bn1, network.conv2, network.bn2, network.layer1])


def made_fast(network: HRNet, settings: AnyTraining) -> HRNet:
    """The network in the memory layout, and compiled, as the recipe says."""
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if (mode := settings.compile_mode) is not None:
        network.compile(mode=mode)
    return network
