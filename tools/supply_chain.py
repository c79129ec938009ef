"""What an install downloads, by pip's own report: pinned hashes, and a list of components (SBOM).

    python -m tools.supply_chain hashes > hashes.txt     # `make lock`
    python -m tools.supply_chain covers hashes.txt       # exit code 0 where this machine is covered
    python -m tools.supply_chain sbom dist/*.whl         # `make dist`: build/hrpose-*.cdx.json

`hashes.txt` has the base install of the system and the Python that its first line names, without
the address of an index. PyTorch, whose builds for CPU and CUDA differ, is in an extra, not in it.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def report(what: Sequence[str], options: Iterable[str] = (), alone: bool = True) -> list[Any]:
    """What pip would install, each with its metadata, file and hash; nothing is installed.

    `alone` asks pip's own index only, whatever this machine has set.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", *options, *what]
    environment = dict(os.environ)
    if alone:
        for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
            environment.pop(name, None)
        environment["PIP_CONFIG_FILE"] = os.devnull
        command += ["--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"pip: {done.stderr.strip()}")
    found: list[Any] = json.loads(done.stdout)["install"]
    return found


def hashes() -> str:
    """The lines of hashes.txt: each package of the base install with the hashes of its wheels."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"# The base install on {_here()}; `make lock` writes this file."]
    for entry in sorted(
        report(project["dependencies"]), key=lambda e: _normal(e["metadata"]["name"])
    ):
        about, archive = entry["metadata"], entry["download_info"]["archive_info"]
        name = f"{_normal(about['name'])}=={about['version']}"
        lines.append(f"{name} --hash=sha256:{archive['hashes']['sha256']}")
    return "\n".join(lines) + "\n"


def _here() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    libc = platform.libc_ver()[0]
    return f"{platform.system()} {platform.machine()}{libc and f' ({libc})'} with Python {version}"


def covers(file: Path) -> bool:
    """Whether hashes.txt is of this system and this Python."""
    return file.is_file() and f" {_here()};" in file.read_text(encoding="utf-8").split("\n")[0]


def sbom(wheel: Path) -> str:
    """A CycloneDX document of a wheel and all that its base install brings."""
    from cyclonedx.contrib.hash.factories import HashTypeFactory
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    made = {}
    entries = report([str(wheel)], alone=False)
    for entry in entries:
        about = entry["metadata"]
        license = about.get("license_expression") or about.get("license") or ""
        short = " ".join(license.split())[:100]
        digests = entry["download_info"].get("archive_info", {}).get("hashes", {})
        name, version = about["name"], about["version"]
        made[_normal(name)] = Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            description=about.get("summary"),
            purl=PackageURL("pypi", name=_normal(name), version=version),
            bom_ref=f"{_normal(name)}=={version}",
            licenses=[LicenseFactory().make_from_string(short)] if short else [],
            hashes=[HashTypeFactory().from_composite_str(f"sha256:{digests['sha256']}")]
            if digests
            else [],
        )
    root = made.pop("hrpose")
    root.type = ComponentType.APPLICATION
    bom = Bom(components=made.values())
    bom.metadata.component = root
    everything = {**made, "hrpose": root}
    for entry in entries:
        needed = {_normal(text) for text in entry["metadata"].get("requires_dist", ())}
        depends = [made[name] for name in sorted(needed & made.keys())]
        bom.register_dependency(everything[_normal(entry["metadata"]["name"])], depends)
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text + "\n"


def _normal(requirement: str) -> str:
    """The name of a requirement, as indexes compare names."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands of this file."""
    match list(arguments):
        case ["hashes"]:
            print(hashes(), end="")
        case ["covers", file]:
            return int(not covers(Path(file)))
        case ["sbom", wheel]:
            path = Path(wheel)
            out = ROOT / "build" / f"{'-'.join(path.name.split('-')[:2])}.cdx.json"
            out.parent.mkdir(exist_ok=True)
            out.write_text(sbom(path), encoding="utf-8")
            print(out)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
