"""The first notebook in a fresh environment, with a base install alone.

    python -m tools.fresh_install [FOLDER]

Makes an environment in FOLDER (by default a temporary one), installs this clone with pip as README
says, and runs the cells of examples/notebooks/0-first-ten-minutes.ipynb one after the other. Prints
each with its output and its seconds, and at the end what is installed and whether PyTorch is.
"""

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "notebooks" / "0-first-ten-minutes.ipynb"

# Runs in the new environment: cells as a list of sources on its standard input.
_RUNNER = """
import ast, json, subprocess, sys, time
names = {"__name__": "__main__"}
for source in json.load(sys.stdin):
    print("\\n" + "\\n".join("> " + line for line in source.splitlines()), flush=True)
    start = time.perf_counter()
    if source.startswith("!"):
        subprocess.run(source[1:], shell=True)
    else:
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
            if value is not None:
                print(repr(value))
    print(f"[{time.perf_counter() - start:.1f} s]", flush=True)
"""


def main() -> None:
    """Install, run and print."""
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="hrpose-fresh-")
    environment = Path(folder) / "venv"
    start = time.perf_counter()
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(scripts / "python")
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)])
    print(
        f"> pip install .\n[{time.perf_counter() - start:.1f} s, with the environment]", flush=True
    )
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    path = f"{scripts}:/usr/bin:/bin" if sys.platform != "win32" else str(scripts)
    subprocess.run(
        [python, "-c", _RUNNER], input=json.dumps(sources), text=True, check=True,
        cwd=NOTEBOOK.parent, env={"PATH": path, "HOME": folder, "COLUMNS": "100"},
    )  # fmt: skip
    listed = _run(
        [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    )
    print(f"\n{len(listed.split())} packages: {' '.join(listed.split())}")
    print("PyTorch is installed" if "torch==" in listed else "PyTorch is not installed")
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes in all")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
