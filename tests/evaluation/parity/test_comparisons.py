"""Golden numbers, compared here once for all, and the certificate: never equal where it is not."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from golden_rules import GOLDEN
from hrpose.evaluation.parity.comparisons import (
    NUMPY,
    Arrays,
    Certificate,
    Check,
    check_coco,
    check_crops,
    check_heatmaps,
    check_losses,
    check_metrics,
    check_network,
    verify,
)
from hrpose.evaluation.parity.golden import Golden

pytestmark = pytest.mark.slow

TORCH = Arrays("torch cpu", torch.tensor, lambda tensor: tensor.numpy())
W32 = "hrnet_w32_coco_256x192"


@pytest.fixture(
    scope="module",
    params=[None, pytest.param(GOLDEN, marks=pytest.mark.slow)],
    ids=["packaged", "full"],
)
def certificate(request: pytest.FixtureRequest) -> Certificate:
    return verify(Golden.open(request.param))


def test_this_installation_is_equal(certificate: Certificate) -> None:
    assert [check for check in certificate.checks if not check.equal] == []
    assert certificate.equal


def test_everything_is_compared(certificate: Certificate) -> None:
    compared = {(check.what, check.on) for check in certificate.checks}
    assert len(compared) == len(certificate.checks)
    for what in ("targets 256x192", "targets 384x288", "flip test", "decoding: scores"):
        assert {(what, "numpy"), (what, "torch cpu")} <= compared
    named = " ".join(what for what, _ in compared)
    for part in ("crops", "warps", "MSE", "OHKM", "OKS-NMS", "soft", "PCKh", "COCO", "w32", "w48"):
        assert part in named


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_equal_too(certificate: Certificate) -> None:
    assert {check.on for check in certificate.checks} >= {"torch cuda"}
    assert certificate.equal


# What is changed in the vectors, by how much, and the checks that must see it.
CHANGED: list[tuple[str, float, Callable[[Golden], Iterable[Check]], set[str]]] = [
    ("crop2_matrix", 2e-4, check_crops, {"crops: image to input"}),
    ("crop5_inverse", 2e-4, check_crops, {"crops: input to image"}),
    ("crop0_size_px", 2e-3, check_crops, {"crops: center and size"}),
    ("target_256x192_heatmaps", 2e-5, partial(check_heatmaps, arrays=NUMPY), {"targets 256x192"}),
    ("target_384x288_weights", 2e-5, partial(check_heatmaps, arrays=TORCH), {"targets 384x288"}),
    (
        "decode_image_xy",
        2e-3,
        partial(check_heatmaps, arrays=TORCH),
        {"decoding: points in the image"},
    ),
    ("decode_score", 2e-5, partial(check_heatmaps, arrays=NUMPY), {"decoding: scores"}),
    ("flip_merged", 2e-5, partial(check_heatmaps, arrays=TORCH), {"flip test"}),
    ("pckh_headboxes", 1e2, check_metrics, {"PCKh"}),
]


def altered(**changes: Any) -> Golden:
    """The package's vectors with some arrays changed."""
    full = Golden.open()
    arrays = {**full.arrays("pipeline"), **changes}
    return Golden(full.folder, {"pipeline.npz": arrays})


def unequal(checks: Iterable[Check]) -> set[str]:
    return {check.what for check in checks if not check.equal}


@pytest.mark.parametrize(("name", "change", "check", "seen"), CHANGED)
def test_a_changed_number_is_seen(
    name: str, change: float, check: Callable[[Golden], Iterable[Check]], seen: set[str]
) -> None:
    array = Golden.open().arrays("pipeline")[name].copy()
    array.flat[0] += change
    assert unequal(check(altered(**{name: array}))) == seen


def test_a_changed_image_is_seen() -> None:
    image = Golden.open().arrays("pipeline")["crop1_image"].copy()
    image[:2] ^= 8
    assert unequal(check_crops(altered(crop1_image=image))) == {
        "warps: pixels off by over 2 levels"
    }


@pytest.mark.parametrize(
    ("key", "check", "seen"),
    [
        ("loss_mse", check_losses, "loss: MSE"),
        ("loss_mse_unweighted", check_losses, "loss: MSE, equal weights"),
        ("loss_ohkm_top8", check_losses, "loss: OHKM, top 8"),
    ],
)
def test_a_changed_loss_is_seen(key: str, check: Any, seen: str) -> None:
    full = Golden.open()
    facts = {**full.facts("pipeline"), key: full.facts("pipeline")[key] + 2e-5}
    assert unequal(check(Golden(full.folder, {"pipeline.json": facts}), TORCH)) == {seen}


def test_another_order_of_suppression_is_seen() -> None:
    full = Golden.open()
    groups = [dict(group) for group in full.facts("pipeline")["nms"]]
    groups[1]["soft_keep_at_0p9"] = groups[1]["soft_keep_at_0p9"][::-1]
    facts = {**full.facts("pipeline"), "nms": groups}
    changed = Golden(full.folder, {"pipeline.json": facts})
    assert unequal(check_metrics(changed)) == {"soft OKS-NMS at 0.9"}


def test_other_results_are_seen() -> None:
    full = Golden.open()
    fewer = full.facts("fakekeypoints100_results")[1:]
    changed = Golden(full.folder, {"fakekeypoints100_results.json": fewer})
    assert unequal(check_coco(changed)) == {"COCO's ten metrics, its example"}


@pytest.mark.slow
def test_another_network_is_seen() -> None:
    full = Golden.open()
    facts = dict(full.facts(W32))
    facts["state_dict"] = [["first", [1]], *facts["state_dict"][1:]]
    heatmaps = full.arrays(W32)["heatmaps"] * np.float32(1.001)
    changed = Golden(full.folder, {f"{W32}.json": facts, f"{W32}.npz": {"heatmaps": heatmaps}})
    assert unequal(check_network(changed, "w32", torch.device("cpu"))) == {
        "network w32: keys and shapes",
        "network w32: heatmaps",
    }


@pytest.mark.parametrize(
    ("difference", "equal"), [(0, True), (1e-5, True), (1.1e-5, False), (math.nan, False)]
)
def test_nothing_that_is_no_number_is_equal(difference: float, equal: bool) -> None:
    check = Check("x", "numpy", difference, 1e-5)
    assert check.equal == equal
    assert Certificate((check,)).equal == equal


def test_a_certificate_without_comparisons_certifies_nothing() -> None:
    assert not Certificate(()).equal


def test_another_shape_is_not_equal() -> None:
    merged = Golden.open().arrays("pipeline")["flip_merged"][:1]
    assert "flip test" in unequal(check_heatmaps(altered(flip_merged=merged), NUMPY))
