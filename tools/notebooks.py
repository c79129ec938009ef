"""Run the notebooks of examples/ and keep them with their outputs, small enough to be read there.

    python -m tools.notebooks [NAME ...]

A NAME is the beginning of a file's name, such as 2; by default all run, which takes some minutes.
Images become JPEG of at most 640 pixels; progress bars, warnings and the names of temporary folders
go. `cleaned` is what the tests hold the files to.
"""

import argparse
import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image

from hrpose.io import write_atomically

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
WIDTH = 640
# What a notebook knows of the machine that ran it.
_TEMPORARY = re.compile(r"/(?:tmp|var/folders)/[^\s'\"]*?hrpose-\w+")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BARS = re.compile(r"(?m)^.*\u2501{5,}.*\n?")


def run(notebook: Any, folder: Path) -> None:
    """Execute a notebook in `folder`. Commands such as `!hrpose` are those of this Python."""
    here = Path(sys.executable).parent
    os.environ["PATH"] = f"{here}{os.pathsep}{os.environ['PATH']}"
    # Tables as wide as a page, whatever the terminal is.
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    # As in a base install, whatever is installed here.
    os.environ |= {"HRPOSE_DEVICE": "cpu", "HRPOSE_PRECISION": "fp32"}
    nbclient.NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}
    ).execute()


def cleaned(notebook: Any) -> Any:
    """The notebook as it is kept."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(filter(None, map(_output, cell.outputs)))
    return notebook


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Texts that follow each other as one."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _output(output: Any) -> Any:
    if output.output_type == "stream":
        if output.name == "stderr":
            return None
        text = _ESCAPES.sub("", _TEMPORARY.sub("hrpose", output.text)).replace("\r\n", "\n")
        output.text = _BARS.sub("", text)
        return output if output.text.strip() else None
    if "data" in output:
        data = output.data
        text = data.get("text/plain", "x").strip()
        if "application/vnd.jupyter.widget-view+json" in data or not text or "ipywidgets" in text:
            return None  # progress bars, and what Rich shows in their place
        if "image/png" in data:
            data["image/jpeg"] = _smaller(data.pop("image/png"))
        for kind in ("text/plain", "text/html"):
            if kind in data:
                data[kind] = _TEMPORARY.sub("hrpose", data[kind])
    return output


def _smaller(png: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Read the command line, run the notebooks, and write them."""
    parser = argparse.ArgumentParser(description="Run the notebooks and keep their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = tuple(parser.parse_args().names)
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not path.name.startswith(names or ("",)):
            continue
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory(prefix="hrpose-") as folder:
            os.environ["IPYTHONDIR"] = folder
            run(notebook, FOLDER)
        write_atomically(path, nbformat.writes(cleaned(notebook)) + "\n")
        print(f"{path.stat().st_size / 1000:7.1f} kB  {path.name}", flush=True)


if __name__ == "__main__":
    main()
