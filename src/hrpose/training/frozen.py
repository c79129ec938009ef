"""The part of a network that a training may leave as it is."""

from torch import nn

from hrpose.network.hrnet import HRNet


def stem(network: HRNet) -> nn.ModuleList:
    """All layers before stage 2: the stem of two convolutions, and stage 1.

    They compute at the highest resolutions, and what they find (edges, textures) serves any joints.
    Without them a core takes half as many samples again in the same time (docs/models).
    """
    return nn.ModuleList([network.conv1, network.bn1, network.conv2, network.bn2, network.layer1])
