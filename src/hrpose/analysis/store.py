"""A copy of weights with a calibration in its passport."""

import json
from dataclasses import replace
from pathlib import Path

from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.passport import METADATA_KEY, Calibration, Passport


def check_copy(weights: Path, out: Path) -> None:
    """Raises UserError where `out` cannot be a copy of `weights`, before any work is done."""
    if weights.suffix not in (".onnx", ".safetensors") or out.suffix != weights.suffix:
        raise UserError(
            f"{out}: a calibration is stored in a copy of .onnx or .safetensors weights, with the "
            f"same ending; found weights {weights.name}"
        )
    if out.resolve() == weights.resolve():
        raise UserError(f"{out}: would be written over; choose another name for the copy")


def store_calibration(weights: Path, calibration: Calibration, out: Path) -> None:
    """Write `weights` (.onnx or .safetensors) to `out` with the calibration, and nothing else
    changed. One that they have already comes first, then the new one.

    Raises UserError where the files are of other kinds or cannot be read or written.
    """
    check_copy(weights, out)
    copy = _onnx if weights.suffix == ".onnx" else _safetensors
    try:
        content = copy(weights, calibration)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{weights}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # protobuf has exceptions of its own
        raise UserError(
            f"{weights}: expected weights of hrpose with a passport "
            f"({type(error).__name__}: {error}); export or convert them first"
        ) from error
    write_atomically(out, content)


def _calibrated(passport: str, calibration: Calibration, weights: Path) -> str:
    """The passport's JSON with the calibration."""
    read = Passport.from_json(passport, weights)
    before = read.calibration or Calibration()
    return replace(read, calibration=before.then(calibration)).to_json()


def _onnx(weights: Path, calibration: Calibration) -> bytes:
    import onnx

    model = onnx.load(weights)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata[METADATA_KEY] = _calibrated(metadata[METADATA_KEY], calibration, weights)
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content


def _safetensors(weights: Path, calibration: Calibration) -> bytes:
    # The file is its header's length in eight bytes, the header as JSON, and the tensors.
    content = weights.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    metadata = header["__metadata__"]
    metadata[METADATA_KEY] = _calibrated(metadata[METADATA_KEY], calibration, weights)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[end:]
