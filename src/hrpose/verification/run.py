"""All comparisons with the golden vectors that this installation allows."""

from hrpose.verification.certificate import Certificate, Check
from hrpose.verification.golden import Golden
from hrpose.verification.pipeline import (
    NUMPY,
    check_coco,
    check_crops,
    check_heatmaps,
    check_metrics,
)

_EXTRA = "needs hrpose[train]"


def verify(golden: Golden) -> Certificate:
    """Compare with the golden vectors: NumPy, and PyTorch, where it is, on the CPU and on CUDA."""
    checks: list[Check] = []
    not_run: list[tuple[str, str]] = []
    checks += check_crops(golden)
    checks += check_heatmaps(golden, NUMPY)
    checks += check_metrics(golden)
    try:
        checks += check_coco(golden)
    except ModuleNotFoundError:
        not_run.append(("COCO's ten figures", _EXTRA))
    try:
        from hrpose.verification.torch_part import check_device, devices
    except ModuleNotFoundError:
        not_run.append(("PyTorch: targets, decoding, flip test, losses, networks", _EXTRA))
        return Certificate(tuple(checks), tuple(not_run))
    for device in devices():
        checks += check_device(golden, device)
    if len(devices()) == 1:
        not_run.append(("PyTorch on a GPU", "there is none with CUDA"))
    return Certificate(tuple(checks), tuple(not_run))
