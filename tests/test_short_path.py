"""One image runs through few source files: a reader can follow the path from call to keypoints.

Counted by calls: importing a module does not count, running one of its functions does.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from typer.testing import CliRunner

import hrpose

PACKAGE = Path(hrpose.__file__).parent
IMAGE = Path(__file__).resolve().parents[1] / "examples/people/walking.jpg"  # one box
# Bodies of modules and classes run at import.
AT_IMPORT = "<module>"


def files_called(work: Callable[[], Any]) -> set[str]:
    """The files of the package, relative to it, in which `work` calls a function."""
    work()  # what modules run when they are imported does not count
    called: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & 0x2 and code.co_name != AT_IMPORT:  # CO_NEWLOCALS
            called.add(code.co_filename)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    inside = (Path(name) for name in called if name.startswith(str(PACKAGE)))
    return {str(path.relative_to(PACKAGE)) for path in inside}


def test_a_library_call_runs_in_few_files() -> None:
    called = files_called(lambda: hrpose.load()(IMAGE))
    assert len(called) <= 15, sorted(called)


def test_a_command_runs_in_few_files(tmp_path: Path) -> None:
    from hrpose.cli.main import app

    def predict() -> None:
        command = ["predict", str(IMAGE), "--out", str(tmp_path), "--overwrite"]
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output

    called = files_called(predict)
    assert len(called) <= 21, sorted(called)


def test_a_library_call_imports_no_compilers_of_numpy() -> None:
    # array_api_compat's wrapper of NumPy imports all of it: a tenth of the time of `predict`.
    code = (
        f"import sys, hrpose; hrpose.load()({str(IMAGE)!r}); assert 'numpy.f2py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, IMAGE], check=True)
