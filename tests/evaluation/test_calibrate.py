"""`hrpose weights calibrate`: what is fitted holds on other persons, and nothing else changes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.covariance import RADIUS, CovarianceFit, check_fits, presence_features
from hrpose.errors import UserError
from hrpose.evaluation.calibrate import Measured, calibrated, store
from hrpose.metadata import Calibration, Metadata, metadata_of
from hrpose.metrics.calibration import coverage, fit_covariance
from hrpose.session import open_session
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

LEVELS = (0.5, 0.8, 0.95)


def persons(rng: np.random.Generator, n: int, *, outliers: float = 0.0) -> Measured:
    """N persons whose errors are as wide as their heatmaps, wider with low peaks, with outliers."""
    k = len(COCO_17)
    peaks = rng.uniform(0.2, 0.9, (n, k)).astype(np.float32)
    axes = np.exp(rng.normal(1.5, 0.4, (n, k, 2)))
    angles = rng.uniform(0, np.pi, (n, k))
    turn = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=-1)
    turn = turn.reshape(n, k, 2, 2)
    moments = turn * np.square(axes)[..., None, :] @ turn.swapaxes(2, 3)
    deviation = np.sqrt(axes * axes.prod(axis=2, keepdims=True) ** 0.5) * (1.3 - peaks)[..., None]
    deviation *= 1 + np.arange(k)[:, None] / k
    far = np.where(rng.random((n, k, 1)) < outliers, 6, 1)
    errors = (turn @ (rng.normal(size=(n, k, 2)) * deviation * far)[..., None])[..., 0]
    visibility = (rng.random((n, k)) < 0.8) * 2.0
    features = presence_features(peaks, moments, rng.uniform(0, 192, (n, k, 2)), (192, 256))
    matrices = np.tile(np.array([[0.5, 0, 3], [0, 0.5, 4]]), (n, 1, 1))
    return Measured(
        peaks, moments, errors, features, visibility, np.exp(-np.square(errors).sum(axis=2) / 200),
        np.arange(n) // 2, np.full(n, 9000.0), matrices,
    )  # fmt: skip


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_ellipses_hold_what_they_say_on_other_persons(outliers: float) -> None:
    fitted_on, others = (
        persons(np.random.default_rng(seed), 1200, outliers=outliers) for seed in (1, 2)
    )
    metadata, reasons = calibrated(Metadata("w16-small", (192, 256)), fitted_on, ("covariance",))
    assert reasons == []
    found = others.coverage(metadata)
    assert found is not None
    np.testing.assert_allclose(found.found, LEVELS, atol=0.015)
    assert (found.low < found.found).all()
    assert (found.found < found.high).all()
    for keypoint in (0, 9, 16):
        only = np.arange(17) == keypoint
        part = others.coverage(metadata, np.broadcast_to(only, (1200, 17)))
        assert part is not None
        np.testing.assert_allclose(part.found, LEVELS, atol=0.05)
    fit = metadata.covariance
    assert fit is not None
    # Outliers are outside of the 50 % ellipse of a Gaussian as seldom as others.
    gaussian = np.sqrt(-2 * np.log(0.5))
    assert (fit.radii_at(0.5).mean() < 0.85 * gaussian) == bool(outliers)
    np.testing.assert_allclose(fit.radii_at(0.95), RADIUS, rtol=1e-4)


def test_another_fit_would_be_noticed() -> None:
    """Coverage is not one of a kind that any fit has."""
    some = persons(np.random.default_rng(0), 400)
    metadata, _ = calibrated(Metadata("w16-small", (192, 256)), some, ("covariance",))
    assert metadata.covariance is not None
    wide = tuple(1.5 * value for value in metadata.covariance.keypoints)
    found = some.coverage(
        replace(metadata, covariance=replace(metadata.covariance, keypoints=wide))
    )
    assert found is not None
    assert found.found[0] > 0.7


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 30))
def test_intervals_of_a_coverage_contain_it(seed: int, images: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    fit = CovarianceFit((0.5,), (1.0,), 1.0, (1.0, 1.0), LEVELS, ((1, 1), (2, 2), (RADIUS,) * 2))
    errors = rng.normal(size=(n, 2, 2))
    spread = np.tile(np.eye(2), (n, 2, 1, 1))
    chosen = rng.random((n, 2)) < 0.7
    found = coverage(fit, spread, errors, chosen, rng.integers(0, images, n))
    if found is None:
        assert not chosen.any()
        return
    inside = np.linalg.norm(errors, axis=2)[chosen] <= RADIUS
    assert found.found[-1] == pytest.approx(inside.mean())
    assert (found.low <= found.found + 1e-9).all()
    assert (found.found <= found.high + 1e-9).all()
    assert found.keypoints == chosen.sum()


def test_a_fit_goes_through_json() -> None:
    some = persons(np.random.default_rng(0), 100)
    metadata, reasons = calibrated(Metadata("w16-small", (192, 256)), some)
    assert reasons == []
    again = Metadata.from_json(metadata.to_json())
    assert again == metadata
    assert again.covariance is not None
    assert again.presence is not None
    damaged = json.loads(metadata.to_json())
    for name, value in (("factors", ["x"]), ("keypoints", [1]), ("more", [1])):
        wrong = {**damaged, "covariance": {**damaged["covariance"], name: value}}
        with refused("metadata-invalid", "here"):
            Metadata.from_json(json.dumps(wrong), "here")
    again.covariance.check()
    for name, values in (
        ("factors", (-1.0,) * 4),
        ("radii", ((1.0,) * 17,)),
        ("peaks", (0.5, 0.4)),
    ):
        fit = replace(again.covariance, **{name: values})
        with refused("metadata-invalid", "mine"):
            check_fits(replace(again, name="mine", covariance=fit))
    with refused("metadata-invalid", "mine"):
        check_fits(replace(again, name="mine", presence=replace(again.presence, visible=(1.0,))))


def test_presence_is_learned_from_labels() -> None:
    """Keypoints with low peaks, and some by their nature, are absent or hidden."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> Measured:
        some = persons(rng, n)
        peak = some.features[..., 0] + np.where(np.arange(17) < 3, 1.5, 0)
        labeled = rng.random(peak.shape) < 1 / (1 + np.exp(-2 * peak - 1))
        visible = rng.random(peak.shape) < 1 / (1 + np.exp(-peak - 2))
        return replace(some, visibility=labeled * (1.0 + visible))

    metadata, reasons = calibrated(Metadata("w16-small", (192, 256)), drawn(600), ("presence",))
    assert reasons == []
    assert metadata.presence is not None
    others = drawn(600)
    told = metadata.presence(others.features)
    np.testing.assert_allclose(told.sum(axis=-1), 1, atol=1e-5)
    for index, value in enumerate((2, 1, 0)):
        assert told[..., index].mean() == pytest.approx(
            (others.visibility == value).mean(), abs=0.02
        )
    report = others.presence(metadata)
    assert report is not None
    assert report.area > report.score_area
    assert report.curve.error < 0.03
    assert Metadata.from_json(metadata.to_json()) == metadata
    # Without hidden keypoints all that are there are visible.
    seen = replace(others, visibility=np.minimum(others.visibility, 1) * 2)
    only, _ = calibrated(metadata, seen, ("presence",))
    assert only.presence is not None
    assert only.presence(seen.features)[..., 1].max() < 1e-3
    full = replace(others, visibility=np.full((600, 17), 2.0))
    same, reasons = calibrated(METADATA, full, ("presence",))
    assert (same, len(reasons)) == (METADATA, 1)


def test_few_labels_fit_no_covariance() -> None:
    some = persons(np.random.default_rng(0), 30)
    pairs = COCO_17.flip_pairs
    assert fit_covariance(some.peaks, some.moments, some.errors, some.labeled, pairs) is None
    metadata, reasons = calibrated(METADATA, some, ("scores", "covariance"))
    assert metadata.covariance is None
    assert metadata.calibration is not None
    assert len(reasons) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    write_dataset(folder / "data", images=30, seed=3)
    write_tiny_weights(folder / "tiny.onnx")
    return folder


def run(folder: Path, *options: Any) -> Any:
    command = ("weights", "calibrate", folder / "tiny.onnx", "--images", folder / "data/images")
    given = command if "--annotations" in options else (
        *command, "--annotations", folder / "data/annotations.json"
    )  # fmt: skip
    return CliRunner().invoke(app, list(map(str, (*given, *options))))


def test_the_command_stores_a_copy(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--out", tmp_path / "fitted.onnx", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["fitted"] == ["covariance", "scores"]
    assert said["coverage"] == pytest.approx(0.95, abs=0.02)
    fitted = metadata_of(tmp_path / "fitted.onnx", Metadata)
    assert fitted.covariance is not None
    assert fitted.calibration is not None
    assert replace(fitted, covariance=None, calibration=None) == METADATA
    crops = np.full((1, 64, 48, 3), 100, np.uint8)
    heatmaps = [
        open_session(path, 1)(crops) for path in (folder / "tiny.onnx", tmp_path / "fitted.onnx")
    ]
    np.testing.assert_array_equal(*heatmaps)
    only = run(folder, "--out", tmp_path / "one.onnx", "--fit", "covariance")
    assert only.exit_code == 0, only.output
    assert metadata_of(tmp_path / "one.onnx", Metadata).calibration is None


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        (("--out", "x.pt"), "x.pt"),
        (("--out", "x.onnx", "--fit", "boxes"), "boxes"),
        (("--out", "x.onnx", "--annotations", "FEW"), "labeled keypoints"),
    ],
)
def test_bad_input_is_reported_and_nothing_written(
    folder: Path, tmp_path: Path, options: tuple[str, ...], mention: str
) -> None:
    document = json.loads((folder / "data/annotations.json").read_bytes())
    document["annotations"] = document["annotations"][:3]
    (few := tmp_path / "few.json").write_text(json.dumps(document))
    named = {"FEW": few, "x.pt": tmp_path / "x.pt", "x.onnx": tmp_path / "x.onnx"}
    done = run(folder, *(named.get(option, option) for option in options))
    assert isinstance(done.exception, UserError)
    assert mention in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.json"]


def weights(tmp_path: Path, kind: str) -> Path:
    if kind == "onnx":
        return write_tiny_weights(tmp_path / "tiny.onnx")
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    path = tmp_path / "tiny.safetensors"
    tensors = {"a": torch.arange(7.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}
    save_file(tensors, path, {Metadata.keys[0]: METADATA.to_json(), "other": "kept"})
    return path


def content(path: Path) -> tuple[Metadata, Any]:
    if path.suffix == ".onnx":
        crops = np.full((1, 64, 48, 3), 100, np.uint8)
        session = open_session(path, threads=1)
        return session.metadata, session(crops).tolist()
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        assert file.metadata()["other"] == "kept"
        tensors = {key: file.get_tensor(key).tolist() for key in sorted(file.keys())}
        return Metadata.from_json(file.metadata()[Metadata.keys[0]]), tensors


@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_storing_changes_the_metadata_and_nothing_else(tmp_path: Path, kind: str) -> None:
    source = weights(tmp_path, kind)
    fitted = replace(METADATA, calibration=Calibration(2, 0.5))
    store(source, fitted, out := tmp_path / f"out.{kind}")
    metadata, same = content(out)
    assert metadata == fitted
    assert same == content(source)[1]
    assert content(source)[0].calibration is None


def test_what_cannot_store_a_calibration(tmp_path: Path) -> None:
    source = write_tiny_weights(tmp_path / "tiny.onnx")
    for weights_file, out in ((source, "x.safetensors"), (tmp_path / "x.ckpt", "y.ckpt")):
        with refused("option-invalid", weights_file.name):
            store(weights_file, METADATA, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.onnx"]
    assert json.loads(METADATA.to_json()).get("calibration") is None


@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"no weights of any kind"])
def test_weights_that_cannot_be_read_are_named(
    tmp_path: Path, kind: str, content: bytes | None
) -> None:
    path = tmp_path / f"bad.{kind}"
    if content is not None:
        path.write_bytes(content)
    with refused("file-unreadable" if content is None else "weights-damaged", f"bad.{kind}"):
        store(path, METADATA, tmp_path / f"out.{kind}")
    assert not (tmp_path / f"out.{kind}").exists()


def test_weights_without_a_metadata_are_named(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "other.onnx", metadata=None)
    with refused("metadata-missing", "other.onnx"):
        store(path, METADATA, tmp_path / "out.onnx")


def test_weights_are_not_written_over(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "tiny.onnx")
    (tmp_path / "link.onnx").symlink_to(path)
    with refused("overwrite-refused", "link.onnx"):
        store(path, METADATA, tmp_path / "link.onnx")
