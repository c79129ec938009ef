"""The choice of an engine, and networks on each that is installed."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hrpose
from hrpose import engines, session, weights
from hrpose.engines import Engine, asked, candidates, for_images
from hrpose.session import open_network, open_session
from refusals import refused
from tiny_weights import write_tiny_weights

HAS_OPENVINO = bool(engines.openvino_devices())
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")
needs_bf16 = pytest.mark.skipif(
    "bf16" not in engines.openvino_precisions("CPU"),
    reason="needs OpenVINO and a processor with AMX or AVX512-BF16",
)


class FakeCore:
    """What is asked of OpenVINO's core."""

    available_devices = ("CPU", "GPU")

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = list(capabilities)

    def get_property(self, device: str, name: str) -> list[str]:
        assert name == "OPTIMIZATION_CAPABILITIES"
        return self.capabilities if device == "CPU" else ["FP32", "FP16"]


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HRPOSE_DEVICE", raising=False)
    monkeypatch.delenv("HRPOSE_PRECISION", raising=False)


def machine(monkeypatch: pytest.MonkeyPatch, *kinds: str, core: FakeCore | None = None) -> None:
    """A machine with ONNX Runtime for these kinds of devices, and with this OpenVINO."""
    monkeypatch.setattr(engines, "provided", lambda kind: kind in ("cpu", *kinds))
    monkeypatch.setattr(engines, "openvino", lambda: core)


AMX = FakeCore("BF16", "FP32", "INT8")
AVX2 = FakeCore("FP32", "INT8")


@pytest.mark.parametrize(
    ("kinds", "core", "words", "expected"),
    [
        ((), None, ("auto", "auto"), ["cpu fp32"]),
        ((), AVX2, ("auto", "auto"), ["cpu fp32"]),
        ((), AMX, ("auto", "auto"), ["openvino bf16", "cpu fp32"]),
        ((), AMX, ("auto", "fp32"), ["cpu fp32"]),
        ((), AMX, ("auto", "int8"), ["cpu fp32"]),
        ((), AMX, ("openvino", "int8"), ["openvino fp32"]),
        ((), AMX, ("auto", "bf16"), ["openvino bf16"]),
        ((), AMX, ("openvino", "auto"), ["openvino bf16"]),
        ((), AMX, ("openvino", "fp32"), ["openvino fp32"]),
        ((), AVX2, ("openvino", "auto"), ["openvino fp32"]),
        ((), AVX2, ("openvino:GPU", "fp16"), ["openvino:GPU fp16"]),
        (("cuda", "tensorrt"), AMX, ("auto", "auto"), ["cuda fp32", "cpu fp32"]),
        (("cuda", "tensorrt"), AMX, ("cuda:1", "auto"), ["cuda:1 fp32"]),
        (("cuda", "tensorrt"), None, ("tensorrt", "fp16"), ["tensorrt fp16"]),
        (("coreml",), None, ("auto", "auto"), ["coreml fp32", "cpu fp32"]),
        (("cuda",), None, ("cpu", "auto"), ["cpu fp32"]),
    ],
)
def test_what_runs(
    monkeypatch: pytest.MonkeyPatch,
    kinds: tuple[str, ...],
    core: FakeCore | None,
    words: tuple[str, str],
    expected: list[str],
) -> None:
    machine(monkeypatch, *kinds, core=core)
    assert [f"{found.device} {found.precision}" for found in candidates(*words)] == expected


@pytest.mark.parametrize(
    ("core", "words", "code", "mentions"),
    [
        (None, ("npu", "auto"), "device-unknown", ["npu", "openvino"]),
        (None, ("cpu:1", "auto"), "device-unknown", ["cpu:1"]),
        (None, ("cuda:x", "auto"), "device-unknown", ["cuda:x"]),
        (None, ("auto", "fp8"), "option-invalid", ["fp8", "bf16"]),
        (None, ("cuda", "auto"), "device-missing", ["cuda", "onnxruntime-gpu", "cpu"]),
        (None, ("openvino", "auto"), "device-missing", ["hrpose[openvino]"]),
        (AMX, ("openvino:NPU", "auto"), "device-missing", ["openvino:GPU"]),
        (AVX2, ("openvino", "bf16"), "device-missing", ["bf16", "fp32"]),
        (None, ("cpu", "fp16"), "device-missing", ["fp16", "fp32"]),
        (None, ("auto", "bf16"), "device-missing", ["hrpose[openvino]"]),
        (AMX, ("auto", "fp16"), "device-missing", ["--device"]),
    ],
)
def test_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    core: FakeCore | None,
    words: tuple[str, str],
    code: str,
    mentions: list[str],
) -> None:
    machine(monkeypatch, core=core)
    with refused(code, *mentions):
        candidates(*words)


def test_the_environment_says_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_DEVICE", "cuda:1")
    monkeypatch.setenv("HRPOSE_PRECISION", "fp16")
    assert asked() == ("cuda:1", "fp16")
    assert asked("cpu", "fp32") == ("cpu", "fp32")
    assert engines.exact("auto") == "fp16"
    monkeypatch.setenv("HRPOSE_DEVICE", "gpu")
    with refused("device-unknown", "HRPOSE_DEVICE"):
        asked()


def test_few_images_do_not_wait_for_openvino() -> None:
    assert for_images("auto", "auto", 99) == ("auto", "fp32")
    assert for_images("auto", "auto", 100) == ("auto", "auto")
    assert for_images("openvino", "auto", 1) == ("openvino", "auto")
    assert for_images("auto", "bf16", 1) == ("auto", "bf16")


class CpuOnly:
    """A session of ONNX Runtime whose other providers did not load."""

    def __init__(self, path: Any, options: Any, providers: Any, **others: Any) -> None:
        self.providers = providers

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs


def test_a_named_device_that_does_not_load_is_no_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, "cuda", "tensorrt")
    monkeypatch.setattr("onnxruntime.InferenceSession", CpuOnly)
    path = write_tiny_weights(tmp_path / "tiny.onnx")
    with refused("device-failed", "CUDAExecutionProvider", "hrpose env"):
        open_network(path, device="cuda")
    with refused("device-failed", "TensorRT"):
        open_session(path, device="tensorrt", precision="fp16")
    assert open_network(path).engine == Engine("cpu")  # `auto` goes on, and says so


def test_providers_are_given_what_was_asked() -> None:
    assert engines.provider(Engine("cuda", "1")) == (
        "CUDAExecutionProvider",
        {"device_id": "1", "use_tf32": "0"},
    )
    name, options = engines.provider(Engine("tensorrt", "", "fp16"))
    assert (name, options) == ("TensorrtExecutionProvider", {"trt_fp16_enable": "1"})


def test_int8_needs_weights_of_eight_bits(tmp_path: Path) -> None:
    with refused("device-missing", "hrpose quantize"):
        open_session(write_tiny_weights(tmp_path / "tiny.onnx"), precision="int8")


def test_exact_results_stay_in_float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_tiny_weights(tmp_path / "tiny.onnx")
    seen: list[str] = []

    def noted(path: Path, threads: Any, device: str, precision: str) -> Any:
        seen.append(precision)
        return session.open_session(path, threads)

    monkeypatch.setattr("hrpose.api.open_session", noted)
    hrpose.load(path, exact=True)
    hrpose.load(path)
    hrpose.load(path, exact=True, precision="bf16")
    assert seen == ["fp32", "auto", "bf16"]


@needs_openvino
def test_weights_of_eight_bits_stay_on_onnx_runtime_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_has_eight_bits", lambda path: True)
    for words in (("auto", "auto"), ("auto", "int8"), ("openvino", "int8")):
        network: Any = open_session(weights.find("w16-small"), 1, *words)
        assert network.engine == Engine("openvino" if words[0] == "openvino" else "cpu")


def test_waiting_threads_of_onnx_runtime_sleep() -> None:
    network: Any = open_network(weights.find("w16-small"), device="cpu")
    options = network._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@needs_openvino
def test_openvino_has_a_request_for_each_thread_and_no_more() -> None:
    network: Any = open_network(weights.find("w16-small"), threads=1, device="openvino")
    width, height = hrpose.load("w16-small", device="cpu").metadata.input_wh
    crops = np.random.default_rng(0).integers(0, 256, (12, height, width, 3), np.uint8)

    def heatmaps(images: np.ndarray) -> np.ndarray:
        (found,) = network({network.inputs[0].name: images}, ["heatmaps"])
        return np.asarray(found)

    with ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(lambda crop: heatmaps(crop[None]), crops))
    assert np.array_equal(np.concatenate(alone), heatmaps(crops))
    assert 1 <= len(network._requests) <= 3


@needs_openvino
def test_openvino_runs_pose_model_and_detector() -> None:
    estimator = hrpose.load(device="openvino", precision="fp32", threads=1)
    assert estimator.engine == "OpenVINO on CPU, fp32"
    plain = hrpose.load(device="cpu", threads=1)
    image = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
    found, expected = estimator(image), plain(image)
    # A flat peak turns sums in another order into a tenth of a pixel.
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.2)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    copy = pickle.loads(pickle.dumps(estimator))
    assert copy.engine == estimator.engine
    assert np.array_equal(copy(image).keypoints, found.keypoints)


@needs_openvino
def test_ports_of_openvino_are_those_of_the_file() -> None:
    path = weights.find("w16-small")
    ours, theirs = (open_network(path, device=name) for name in ("cpu", "openvino"))
    assert [port.name for port in theirs.outputs] == [port.name for port in ours.outputs]
    assert theirs.inputs[0].dtype == np.uint8
    assert theirs.inputs[0].shape == (None, *ours.inputs[0].shape[1:])


@needs_openvino
def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "a.onnx"
    damaged.write_bytes(b"not a network")
    with refused("device-failed", "a.onnx", "OpenVINO"):
        open_network(damaged, device="openvino")
    with refused("weights-damaged", "a.onnx"):
        open_network(damaged)


@pytest.mark.slow
@pytest.mark.shared
@needs_bf16
def test_bf16_keeps_the_ap(shared: Path) -> None:
    """Within .002 AP, and by the median within .05 pixels of the heatmap."""
    pytest.importorskip("faster_coco_eval", reason="hrpose[train] is not installed")
    folder = shared / "data" / "coco-mini"
    files = (folder / "val.json", folder / "images")
    plain = hrpose.evaluate("w16-small", *files, flip_test=False)
    fast = hrpose.evaluate(
        "w16-small", *files, flip_test=False, device="openvino", precision="bf16"
    )
    assert (plain.engine, fast.engine) == ("ONNX Runtime on CPU, fp32", "OpenVINO on CPU, bf16")
    assert abs(plain.metrics["AP"] - fast.metrics["AP"]) < 0.002


@needs_bf16
def test_bf16_hardly_moves_keypoints() -> None:
    from hrpose.synthetic import render_image

    rng, moved = np.random.default_rng(0), []
    plain = hrpose.load(detector="full-image", device="cpu", precision="fp32")
    fast = hrpose.load(detector="full-image", device="openvino", precision="bf16")
    for _ in range(8):
        drawn = render_image(rng)
        exact, near = (each(drawn.image, drawn.boxes).keypoints for each in (plain, fast))
        # A pixel of the heatmap, by the box's longer side in crops padded by a quarter.
        pixel = np.max(np.asarray(drawn.boxes)[:, 2:], axis=1) * 1.25 / 48
        moved.append(np.linalg.norm((exact - near)[..., :2], axis=-1) / pixel[:, None])
    assert np.median(np.concatenate(moved)) < 0.05


def test_onnx_runtime_keeps_no_id_in_the_home_folder(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    code = "import hrpose; hrpose.load('w16-small', detector='full-image', device='cpu')"
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
