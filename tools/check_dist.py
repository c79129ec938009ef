"""Check a release: names, contents, size, and that it works in an empty environment.

    python -m tools.check_dist dist [--tag v1.2.3]

`make dist` runs it. It ends with exit code 1 and a line for each problem.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_WHEEL_BYTES = 20_000_000
IMAGE = ROOT / "examples" / "astronaut.jpg"

# The package may contain code, its data, and the notices.
_WHEEL_ENDINGS = {
    ".py",
    ".typed",
    ".onnx",
    ".npz",
    ".json",
    ".csv",
    ".css",
    ".js",
    ".html",
    ".svg",
    ".jpg",
    ".toml",
    ".yaml",
}
_NEVER = re.compile(r"(^|/)(__pycache__|\.venv[^/]*|runs|out|\.git|\.hypothesis)/|\.py[co]$|\.env$")


def version() -> str:
    """The version in the source."""
    text = (ROOT / "src" / "hrpose" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert found, "src/hrpose/_version.py: expected a line __version__ = ..."
    return found[1]


def wrong_tag(tag: str) -> list[str]:
    """The problems with releasing a commit under this tag."""
    current = version()
    problems = []
    if tag != f"v{current}":
        problems.append(f"tag {tag}: expected v{current}, as in src/hrpose/_version.py")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if f"\n## [{current}]" not in changelog:
        problems.append(f"CHANGELOG.md: expected a section ## [{current}]; rename Unreleased")
    return problems


def tracked() -> set[str] | None:
    """The tracked files; None outside of a git checkout, as in an sdist."""
    if not (ROOT / ".git").exists():
        return None
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split("\0") if name}


def wrong_wheel(wheel: Path) -> list[str]:
    """Missing files of the wheel, and files that do not belong in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    info = f"hrpose-{version()}.dist-info/"
    inside = {name for name in names if not name.startswith(info)}
    problems = [
        f"{wheel.name}: {name} does not belong in it"
        for name in sorted(inside)
        if not name.startswith("hrpose/") or Path(name).suffix not in _WHEEL_ENDINGS
    ]
    for notice in ("LICENSE", "NOTICE"):
        if f"{info}licenses/{notice}" not in names:
            problems.append(f"{wheel.name}: {notice} is missing")
    known = tracked()
    if known is not None:
        package = {f.removeprefix("src/") for f in known if f.startswith("src/hrpose/")}
        problems += _difference(wheel, inside, package, package)
    size = wheel.stat().st_size
    if size > MOST_WHEEL_BYTES:
        problems.append(
            f"{wheel.name}: expected at most {MOST_WHEEL_BYTES / 1e6:.0f} MB, "
            f"found {size / 1e6:.1f} MB"
        )
    return problems


def wrong_sdist(sdist: Path) -> list[str]:
    """The same for the sdist: only tracked files, and all that building and testing need."""
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    top = f"hrpose-{version()}/"
    problems = [f"{sdist.name}: {name} is outside {top}" for name in members if top not in name]
    inside = {name.removeprefix(top) for name in members} - {"PKG-INFO"}
    needed = {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md"}
    known = tracked()
    if known is not None:
        needed |= {f for f in known if f.startswith(("src/", "tests/", "checks/"))}
    return problems + _difference(sdist, inside, needed, known)


def _difference(
    where: Path, inside: set[str], needed: set[str], allowed: set[str] | None
) -> list[str]:
    strange = {name for name in inside if _NEVER.search(name)}
    if allowed is not None:
        strange |= inside - allowed
    return [f"{where.name}: {name} is missing" for name in sorted(needed - inside)] + [
        f"{where.name}: {name} does not belong in it" for name in sorted(strange)
    ]


def wrong_use(wheel: Path) -> list[str]:
    """Install the wheel into an empty environment and draw a skeleton with it."""
    with tempfile.TemporaryDirectory() as folder:
        # PIP_CONSTRAINT may be relative to this folder; the later commands must not see the source.
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        commands = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin")
        subprocess.run(
            [commands / "python", "-m", "pip", "install", "-q", str(wheel.resolve())], check=True
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        problems = []
        for arguments, expected in (
            (["--version"], f"hrpose {version()}"),
            (["predict", str(IMAGE), "--out", "out"], ""),
        ):
            done = subprocess.run(
                [commands / "hrpose", *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            if done.returncode or expected not in done.stdout:
                output = " ".join((done.stdout + done.stderr).split())
                problems.append(f"hrpose {' '.join(arguments)}: {output or done.returncode}")
        written = {path.name for path in Path(folder, "out").rglob("*") if path.is_file()}
        if "poses.json" not in written or not any(n.startswith("astronaut") for n in written):
            problems.append(f"hrpose predict: expected an image and poses.json, found {written}")
        return problems


def check(folder: Path, tag: str = "", use: bool = True) -> list[str]:
    """All problems with the files in `folder`, one line each."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    names = [f"hrpose-{version()}-py3-none-any.whl", f"hrpose-{version()}.tar.gz"]
    if [file.name for file in (*wheels, *sdists)] != names:
        found = ", ".join(file.name for file in (*wheels, *sdists)) or "none"
        return [f"{folder}: expected {' and '.join(names)}, found {found}"]
    problems = wrong_tag(tag) if tag else []
    problems += wrong_wheel(wheels[0]) + wrong_sdist(sdists[0])
    return problems or (wrong_use(wheels[0]) if use else [])


def main(arguments: Iterable[str] | None = None) -> None:
    """Print the problems, or the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", default="", help="the tag that is released, such as v1.2.3")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    problems = check(asked.folder, asked.tag)
    if problems:
        sys.exit("\n".join(problems))
    for file in sorted(asked.folder.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    print("contents checked; installed into an empty environment and used")


if __name__ == "__main__":
    main()
