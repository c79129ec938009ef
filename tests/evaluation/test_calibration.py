"""Scores that lie in a known way are made honest; presence is told from absence as it was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.errors import UserError
from hrpose.evaluation import calibration
from hrpose.evaluation.calibration import store_calibration
from hrpose.metadata import Calibration, Metadata
from hrpose.session import open_session
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights


@pytest.mark.parametrize(("temperature", "offset"), [(1, 0), (0.5, 0), (2.5, 1.2), (1.5, -0.8)])
def test_a_known_calibration_comes_back(temperature: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, 20000)
    honest = Calibration(temperature, offset)(scores)
    similarity = rng.beta(20 * honest, 20 * (1 - honest))
    found = calibration.fit(scores, similarity)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.offset == pytest.approx(offset, abs=0.03)
    before = calibration.reliability(scores, similarity)
    after = calibration.reliability(found(scores), similarity)
    assert after.error < 0.01
    assert before.error == pytest.approx(np.abs(scores - honest).mean(), abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_scores_that_say_nothing_or_the_opposite_still_have_a_calibration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=500)
    for similarity in (rng.uniform(size=500), 1 - scores, np.ones(500)):
        found = calibration.fit(scores, similarity)
        assert np.isfinite(found(scores)).all()
        assert found.temperature > 0


def test_presence() -> None:
    rng = np.random.default_rng(0)
    there, absent = rng.beta(6, 3, 5000), rng.beta(3, 6, 2500)
    found = calibration.presence(there, absent)
    pairs = (there[:, None] > absent[None, ::5]).mean()
    assert found.area == pytest.approx(pairs, abs=0.01)
    # The two densities cross at one half.
    assert found.threshold == pytest.approx(0.5, abs=0.05)
    assert found.recall == (there >= found.threshold).mean()
    assert found.specificity == (absent < found.threshold).mean()
    # By Bayes: 2 : 1 times the ratio of the densities, (s / (1 - s))^3.
    assert found.slope == pytest.approx(3, rel=0.05)
    assert found.offset == pytest.approx(np.log(2), abs=0.05)


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
    first, second = Calibration(2, 0.5), Calibration(0.8, -0.1)
    once, twice = (tmp_path / f"{name}.{kind}" for name in ("once", "twice"))
    store_calibration(source, first, once)
    store_calibration(once, second, twice)
    for path, expected in ((once, first), (twice, first.then(second))):
        metadata, same = content(path)
        assert metadata.calibration == expected
        assert same == content(source)[1]
    assert content(source)[0].calibration is None


def test_what_cannot_store_a_calibration(tmp_path: Path) -> None:
    source = write_tiny_weights(tmp_path / "tiny.onnx")
    for weights_file, out in ((source, "x.safetensors"), (tmp_path / "x.ckpt", "y.ckpt")):
        with pytest.raises(UserError, match="same ending"):
            store_calibration(weights_file, Calibration(), tmp_path / out)
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
    with pytest.raises(UserError, match=rf"bad\.{kind}: "):
        store_calibration(path, Calibration(), tmp_path / f"out.{kind}")
    assert not (tmp_path / f"out.{kind}").exists()


def test_weights_without_a_metadata_are_named(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "other.onnx", metadata=None)
    with refused("metadata-missing", "other.onnx"):
        store_calibration(path, Calibration(), tmp_path / "out.onnx")


def test_weights_are_not_written_over(tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "tiny.onnx")
    (tmp_path / "link.onnx").symlink_to(path)
    with pytest.raises(UserError, match="would be written over"):
        store_calibration(path, Calibration(), tmp_path / "link.onnx")
