"""ONNX Runtime for detectors."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_onnx(path: Path, threads: int | None = None) -> "InferenceSession":
    """An ONNX file ready to run, on at most `threads` threads; without, all usable cores.

    Raises UserError where it is missing or no ONNX model.
    """
    import onnxruntime as ort  # Here, because it takes a good part of the start-up time.

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # ONNX Runtime counts the machine's cores, of which a container may have few; not every system
    # can tell which.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.intra_op_num_threads = threads or usable
    try:
        return ort.InferenceSession(path, options, providers=ort.get_available_providers())
    except Exception as error:  # ONNX Runtime's exceptions have no common public base.
        if not path.is_file():
            raise UserError(f"{path}: no such file; check the name of the detector") from error
        first = str(error).split("\n")[0]
        raise UserError(f"{path}: expected an ONNX detector, found: {first}") from error
