"""Engines: what can run networks on this machine, and which of them does.

`device` and `precision` are words of the user, `Engine` is what they stand for. ONNX Runtime is
always there and has one provider for each kind of device; OpenVINO is an extra. A device that was
named is used or refused: nothing falls back to another one in silence.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hrpose.errors import UserError

DEVICE_VARIABLE, PRECISION_VARIABLE = "HRPOSE_DEVICE", "HRPOSE_PRECISION"
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
# OpenVINO takes about .5 s longer to start, and with bf16 wins back 5 to 10 ms an image.
MIN_IMAGES_FOR_OPENVINO = 100

# Distributions of ONNX Runtime. All install the same folder: the last one replaces the others.
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_PACKAGES = ("hrpose", *ONNX_RUNTIMES, "openvino", "torch", "numpy", "opencv-python-headless")
# What decides how fast networks are, of the names in /proc/cpuinfo.
_FEATURES = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "amx_fp16", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of device: ONNX Runtime's provider for it, None for OpenVINO, and what it computes in.

    `package` is what pip installs for it. Eight bits need no device: they are in the weights.
    """

    provider: str | None
    precisions: tuple[str, ...]
    package: str


KINDS = {
    "cpu": Kind("CPUExecutionProvider", ("fp32",), "onnxruntime"),
    "cuda": Kind("CUDAExecutionProvider", ("fp32",), "onnxruntime-gpu"),
    "tensorrt": Kind("TensorrtExecutionProvider", ("fp32", "bf16", "fp16"), "onnxruntime-gpu"),
    "coreml": Kind("CoreMLExecutionProvider", ("fp32",), "onnxruntime"),
    "directml": Kind("DmlExecutionProvider", ("fp32",), "onnxruntime-directml"),
    "openvino": Kind(None, ("fp32", "bf16", "fp16"), "hrpose[openvino]"),
}
DEVICES = ("auto", *KINDS)
# Kinds that `auto` takes before the CPU. TensorRT would first build for minutes.
_TAKEN_UNASKED = ("cuda", "coreml", "directml")


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs a network: a kind of device, which one of these, and fp32, bf16 or fp16."""

    kind: str
    which: str = ""
    precision: str = "fp32"

    @property
    def device(self) -> str:
        """As the user names it, such as cuda:1."""
        return f"{self.kind}:{self.which}" if self.which else self.kind

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the cores of this machine."""
        return self.kind == "cpu" or (self.kind == "openvino" and self.which in ("", "CPU"))

    def __str__(self) -> str:
        if self.kind == "openvino":
            return f"OpenVINO on {self.which or 'CPU'}, {self.precision}"
        name = {"tensorrt": "TensorRT", "coreml": "CoreML", "directml": "DirectML"}
        device = name.get(self.kind, self.kind.upper()) + (f":{self.which}" if self.which else "")
        return f"ONNX Runtime on {device}, {self.precision}"


def asked(device: str = "auto", precision: str = "auto") -> tuple[str, str]:
    """The words for device and precision; for `auto` those of the environment, if it has any.

    HRPOSE_DEVICE and HRPOSE_PRECISION. Raises UserError for words that are none.
    """
    from_device = from_precision = ""
    if device == "auto" and (device := os.environ.get(DEVICE_VARIABLE) or "auto") != "auto":
        from_device = f" (from {DEVICE_VARIABLE})"
    if precision == "auto":
        precision = os.environ.get(PRECISION_VARIABLE) or "auto"
        from_precision = f" (from {PRECISION_VARIABLE})" if precision != "auto" else ""
    kind, colon, which = device.partition(":")
    numbered = kind in ("cuda", "tensorrt", "directml") and which.isascii() and which.isdigit()
    if kind not in DEVICES or (colon and not (numbered or (kind == "openvino" and which))):
        raise UserError(
            f"device {device}{from_device}: expected one of {', '.join(DEVICES)}; which one of "
            "several is cuda:1 or openvino:GPU",
            code="device-unknown",
        )
    if precision not in PRECISIONS:
        raise UserError(
            f"precision {precision}{from_precision}: expected one of {', '.join(PRECISIONS)}",
            code="option-invalid",
        )
    return device, precision


def exact(precision: str) -> str:
    """For what auto must not make less exact: fp32 instead, unless the environment asks for more.

    Eight bits are a matter of the weights and not of the engine, so int8 is fp32 here too.
    """
    _, precision = asked(precision=precision)
    return "fp32" if precision in ("auto", "int8") else precision


def for_images(device: str, precision: str, images: int) -> tuple[str, str]:
    """The words of the user for this many images, where the process ends with them.

    Few images are done before OpenVINO has started, so for them `auto` leaves it out.
    """
    device, precision = asked(device, precision)
    few = images < MIN_IMAGES_FOR_OPENVINO
    return device, "fp32" if few and (device, precision) == ("auto", "auto") else precision


def candidates(device: str = "auto", precision: str = "auto") -> list[Engine]:
    """What may run a network, the best first; one where a device is named.

    Raises UserError where none can: a device that is not there, or a precision it has not.
    """
    device, precision = asked(device, precision)
    # Eight bits are in the weights. OpenVINO computes them less exactly: .06 AP less than ONNX
    # Runtime with the same file (benchmarks/PIPELINE.md), so it is not taken unasked.
    precision = "fp32" if precision == "int8" else precision
    if device != "auto":
        return [_named(device, precision)]
    exact_enough = precision in ("auto", "fp32")
    found = [Engine(kind) for kind in _TAKEN_UNASKED if exact_enough and provided(kind)]
    bf16 = precision == "bf16" or (precision == "auto" and not found)
    if bf16 and "bf16" in openvino_precisions("CPU"):
        found.append(Engine("openvino", "", "bf16"))
    if exact_enough:
        found.append(Engine("cpu"))
    if not found:
        why = "; pip install 'hrpose[openvino]'" if openvino() is None else ""
        raise UserError(
            f"precision {precision}: nothing on this machine computes in it unasked "
            f"({_what_is_there()}); name a --device that does{why if precision == 'bf16' else ''}",
            code="device-missing",
        )
    return found


def _named(device: str, precision: str) -> Engine:
    kind, _, which = device.partition(":")
    if kind == "openvino":
        if (which or "CPU") not in openvino_devices():
            missing = openvino() is None
            raise UserError(
                f"device {device}: "
                + ("OpenVINO is not installed" if missing else "OpenVINO finds no such device")
                + f" (there is: {_what_is_there()})"
                + ("; pip install 'hrpose[openvino]'" if missing else "; choose another"),
                code="device-missing",
            )
        computes = openvino_precisions(which or "CPU")
        unasked = "bf16" if "bf16" in computes else "fp32"
    else:
        if not provided(kind):
            raise UserError(
                f"device {device}: this ONNX Runtime has no {KINDS[kind].provider} (there is: "
                f"{_what_is_there()}); {_how_to_install(kind)}",
                code="device-missing",
            )
        computes, unasked = KINDS[kind].precisions, "fp32"
    if precision != "auto" and precision not in computes:
        raise UserError(
            f"precision {precision}: {device} computes in {', '.join(computes)} here; choose one "
            "of them, or another --device",
            code="device-missing",
        )
    return Engine(kind, which, unasked if precision == "auto" else precision)


def _how_to_install(kind: str) -> str:
    package = KINDS[kind].package
    if package == "onnxruntime":
        return "it needs macOS"
    return f"pip uninstall onnxruntime, then pip install {package}"


def _what_is_there() -> str:
    """The devices that may be named here."""
    names = [kind for kind in KINDS if kind != "openvino" and provided(kind)]
    others = openvino_devices()
    return ", ".join((*names, *(f"openvino:{name}" for name in others)))


def provided(kind: str) -> bool:
    """Whether the installed ONNX Runtime was built with the provider of this kind of device."""
    return KINDS[kind].provider in onnxruntime().get_available_providers()


def onnxruntime() -> Any:
    """ONNX Runtime, imported when a network is opened: it takes a good part of the start-up time.

    Its Linux builds count their use, keep an id in the home folder and name an address to send to.
    hrpose turns that off; who wants it sets `ORT_DISABLE_TELEMETRY=0`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    return ort


@cache
def openvino() -> Any:
    """OpenVINO's core, or None where it is not installed or fails to start."""
    try:
        import openvino as ov

        return ov.Core()
    except (ImportError, OSError, RuntimeError):
        return None


def openvino_devices() -> Sequence[str]:
    """The devices that OpenVINO finds, such as CPU, GPU and NPU."""
    return [] if openvino() is None else list(openvino().available_devices)


def openvino_precisions(device: str) -> tuple[str, ...]:
    """What this device of OpenVINO computes in. A CPU has bf16 with AMX or AVX512-BF16 only."""
    if device not in openvino_devices():
        return ()
    able = openvino().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return tuple(name.lower() for name in ("FP32", "BF16", "FP16") if name in able)


def provider(engine: Engine) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's provider for this engine, with its options."""
    name, options = KINDS[engine.kind].provider, {}
    assert name is not None
    if engine.which:
        options["device_id"] = engine.which
    if engine.kind == "cuda":
        options["use_tf32"] = "0"  # which has the mantissa of fp16
    if engine.kind == "tensorrt" and engine.precision != "fp32":
        options[f"trt_{engine.precision}_enable"] = "1"
    return name, options


def running(session: Any, detector: Any) -> str:
    """What runs a pose model; and the detector's engine too, where that is another one."""
    pose = str(getattr(session, "engine", type(session).__name__))
    found = str(getattr(detector, "engine", pose))
    return pose if found == pose else f"{pose}; detector: {found}"


def versions() -> dict[str, str]:
    """The versions of the packages that matter here, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def processor() -> tuple[str, list[str]]:
    """The processor's name, and the features that matter here as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    entries = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = (entries.get("flags") or entries.get("Features") or "").split()
    return entries.get("model name", platform.machine()), [x for x in _FEATURES if x in flags]


def conflicts(installed: Mapping[str, str]) -> list[str]:
    """A sentence for each pair of packages that disturb each other."""
    runtimes = [name for name in ONNX_RUNTIMES if name in installed]
    if len(runtimes) < 2:
        return []
    return [
        f"{' and '.join(runtimes)} overwrite each other's files: pip uninstall all of them, then "
        "install one"
    ]
