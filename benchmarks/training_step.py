"""A training step: each speed option of the recipe against the eager float32 loop.

On a CUDA device W32 at 256x192, otherwise w16-small at 128x96.
"""

from collections.abc import Callable, Iterator

import torch

from benchmarks.rows import Fact, Row
from hrpose.codec import Codec
from hrpose.metadata import IMAGENET_MEAN, IMAGENET_STD
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.training.module import weighted_mse

BATCH = 32


def rows() -> Iterator[Row | Fact]:
    """Each option alone, then all that this machine supports."""
    cuda = torch.cuda.is_available()
    name, input_wh = ("w32", (192, 256)) if cuda else ("w16-small", (96, 128))
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_flush_denormal(True)
    plain = _step(name, input_wh, device)
    half = torch.bfloat16 if cuda or torch.cpu._is_avx512_bf16_supported() else None
    switches: dict[str, dict[str, object]] = {
        "channels_last": {"channels_last": True},
        "compile": {"compiled": True},
        "fused optimizer": {"fused": True},
    }
    if half is not None:
        switches["bfloat16"] = {"half": half}
        switches["bfloat16, channels_last, fused"] = {
            "half": half, "channels_last": True, "fused": True,
        }  # fmt: skip
    switches["all"] = {"half": half, "channels_last": True, "compiled": True, "fused": True}
    for what, options in switches.items():
        yield Row(
            f"training step, {name} {input_wh[1]}x{input_wh[0]}, batch {BATCH}, "
            f"{device.type}: {what}",
            "float32, eager, one tensor at a time",
            _step(name, input_wh, device, **options),  # type: ignore[arg-type]
            plain,
            rounds=5,
            wall=True,
            per=BATCH,
        )


def _step(
    name: str,
    input_wh: tuple[int, int],
    device: torch.device,
    *,
    channels_last: bool = False,
    compiled: bool = False,
    fused: bool = False,
    half: torch.dtype | None = None,
) -> Callable[[], object]:
    torch.manual_seed(0)
    network = HRNet.from_name(name).to(device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        network.compile()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused, foreach=False)
    normalize, codec = Normalize(IMAGENET_MEAN, IMAGENET_STD).to(device), Codec()
    width, height = input_wh
    images = torch.randint(0, 256, (BATCH, height, width, 3), dtype=torch.uint8, device=device)
    points = torch.rand((BATCH, 17, 2), device=device) * torch.tensor(input_wh, device=device)
    visible = torch.ones((BATCH, 17), device=device)

    def step() -> object:
        targets, weights = codec.encode(points, visible, input_wh)
        inputs = normalize(images)
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
            heatmaps = network(inputs)
        loss = weighted_mse(heatmaps.float(), targets, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    return step
