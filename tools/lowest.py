"""`make lowest`: the oldest versions that pyproject.toml allows, as constraints for pip.

Prints `name==version` for each direct dependency of the package and its extras; pip chooses the
indirect ones.
"""

import re
import sys
import tomllib
from pathlib import Path

_FORM = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[.*\])?>=(?P<least>[0-9.]+),<[0-9.]+(\s*;.*)?")


def lowest(pyproject: Path) -> dict[str, str]:
    """The lower bound of each direct dependency. Raises ValueError if a bound is missing."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    found: dict[str, str] = {}
    for requirement in wanted:
        if requirement.startswith(f"{project['name']}["):
            continue  # another extra of the package
        form = _FORM.fullmatch(requirement)
        if form is None:
            raise ValueError(f"{requirement}: expected name>=LOWEST,<TOO_NEW")
        least = form["least"]
        if found.setdefault(form["name"], least) != least:
            raise ValueError(f"{form['name']}: expected one lower bound, found two")
    return found


if __name__ == "__main__":
    for name, version in sorted(lowest(Path(sys.argv[1])).items()):
        print(f"{name}=={version}")
