"""Opening ONNX files: the one place that says how ONNX Runtime runs here."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_onnx(path: Path, what: str = "model", threads: int | None = None) -> "InferenceSession":
    """An ONNX file ready to run, on at most `threads` threads; without, all usable cores.

    Who bounds the threads has other work for the cores: then a thread that waits sleeps. Otherwise
    it spins, which is a little faster on an idle machine, and up to twice as slow on a busy one.
    Raises UserError where it is missing or cannot be run; `what` says what was expected.
    """
    import onnxruntime as ort  # Here, because it takes a good part of the start-up time.

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or usable_cores()
    if threads is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The graphs are chains of large nodes: running several at once gains nothing.
    options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(path, options, providers=ort.get_available_providers())
    except Exception as error:  # ONNX Runtime's exceptions have no common public base.
        if not path.is_file():
            raise UserError(f"{path}: no such file; check the name of the {what}") from error
        first = str(error).split("\n")[0]
        raise UserError(f"{path}: expected an ONNX {what}, found: {first}") from error


def read_notes(session: "InferenceSession", path: Path) -> dict[str, str]:
    """The texts that a file carries beside its model. Raises UserError where they are no texts."""
    try:
        notes: dict[str, str] = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: damaged (its metadata are no text: {error}); copy it here again"
        ) from error
    return notes


def usable_cores() -> int:
    """The cores this process may use; not every system can tell, then all of them.

    ONNX Runtime by itself counts the machine's, of which a container may have few.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
