"""HRNet: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation"."""

from torch import Tensor, nn

from hrpose.network.blocks import Exchange, Transition, bottlenecks, conv_bn
from hrpose.network.spec import NETWORKS, HRNetSpec, StageSpec


class HRNet(nn.Module):
    """From the crop of one person to one heatmap per keypoint.

    The stem divides the resolution by four; from there the finest branch keeps it to the end.
    Each stage adds one branch of half the resolution and twice the width, and the branches
    exchange what they know after every few blocks.

    `spec` is a row of `hrpose.network.spec.NETWORKS` or one of your own, `num_keypoints` how many
    heatmaps come out. State dict keys and their order equal those of the official code.
    """

    def __init__(self, spec: HRNetSpec, num_keypoints: int = 17) -> None:
        super().__init__()
        if num_keypoints < 1:
            raise ValueError(f"num_keypoints: expected at least 1, found {num_keypoints}")
        self.spec = spec
        self.num_keypoints = num_keypoints
        stem, stage1_width = spec.stem_width, 4 * spec.bottleneck_width
        s2, s3, s4 = spec.stages

        self.conv1, self.bn1 = conv_bn(3, stem, 3, stride=2)
        self.conv2, self.bn2 = conv_bn(stem, stem, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = bottlenecks(stem, spec.bottleneck_width, spec.bottlenecks)
        self.transition1 = Transition((stage1_width,), s2.widths)
        self.stage2 = _stage(s2, outputs=2)
        self.transition2 = Transition(s2.widths, s3.widths)
        self.stage3 = _stage(s3, outputs=3)
        self.transition3 = Transition(s3.widths, s4.widths)
        self.stage4 = _stage(s4, outputs=1)
        self.final_layer = nn.Conv2d(s4.widths[0], num_keypoints, 1)
        self.apply(_initialise)

    @classmethod
    def from_name(cls, name: str, num_keypoints: int = 17) -> "HRNet":
        """Build a network of the table in `hrpose.network.spec`, with fresh weights.

        `num_keypoints` is how many heatmaps come out, 17 for COCO. Raises ValueError, naming those
        that exist, where `name` is not in the table.
        """
        if name not in NETWORKS:
            raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, found '{name}'")
        return cls(NETWORKS[name], num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB floats (n, 3, h, w) to heatmaps (n, k, h/4, w/4).

        h and w are multiples of 32: the coarsest branch has 1/32 of the resolution.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        branches = self.stage2(self.transition1(branches))
        branches = self.stage3(self.transition2(branches))
        (finest,) = self.stage4(self.transition3(branches))
        heatmaps: Tensor = self.final_layer(finest)
        return heatmaps


def _stage(spec: StageSpec, outputs: int) -> nn.Sequential:
    """`modules` exchange units; only the last may leave out branches that nothing reads."""
    full = len(spec.widths)
    return nn.Sequential(
        *(
            Exchange(spec.widths, spec.blocks, full if unit < spec.modules - 1 else outputs)
            for unit in range(spec.modules)
        )
    )


def _initialise(module: nn.Module) -> None:
    """Normal, standard deviation 0.001, biases zero: the official code's initialisation."""
    # On the meta device there is nothing to initialise, and trying takes seconds.
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
