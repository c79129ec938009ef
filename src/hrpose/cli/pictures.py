"""The pictures that `hrpose predict` was given: which files, their ids, where the drawn ones go."""

import tempfile
from pathlib import Path

from hrpose.errors import UserError
from hrpose.image import SUFFIXES

# A drawn picture keeps its format where OpenCV can write it.
WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def files_of(pictures: list[Path], failures: list[str]) -> list[tuple[Path, int]]:
    """The files to read, each with its image id; what is missing goes to `failures`.

    A picture named by a number, as COCO's are, has that number as its id.
    """
    found: dict[Path, None] = {}
    for given in pictures:
        try:
            inside = sorted(given.iterdir()) if given.is_dir() else None
            exists = given.exists()
        except OSError as error:  # a folder of somebody else, or too long a name
            failures.append(f"{given}: cannot be read ({error.strerror})")
            continue
        if inside is not None:
            inside = [file for file in inside if file.suffix.lower() in SUFFIXES]
            if not inside:
                failures.append(f"{given}: expected pictures ({', '.join(SUFFIXES)}), found none")
            found.update(dict.fromkeys(inside))
        elif exists:
            found[given] = None
        else:
            failures.append(f"{given}: no such file")
    if not found:
        raise UserError("; ".join(failures))
    files = list(found)
    stems = [file.stem for file in files]
    if all(stem.isascii() and stem.isdigit() for stem in stems) and len(set(stems)) == len(stems):
        return [(file, int(file.stem)) for file in files]
    return [(file, position) for position, file in enumerate(files, start=1)]


def targets_of(files: list[tuple[Path, int]], out: Path) -> dict[Path, Path]:
    """Where each drawn picture goes: its own name in `out`. No input is ever written over."""
    targets: dict[Path, Path] = {}
    taken: set[Path] = set()
    sources = {file.resolve() for file, _ in files}
    for file, _ in files:
        writable = file.suffix.lower() in WRITABLE
        target = out / (file.name if writable else f"{file.name}.png")
        if target.resolve() in sources:
            raise UserError(f"{target}: would be written over; choose another --out")
        if target in taken:
            raise UserError(f"{file}: a second picture named {file.name}; predict them one by one")
        taken.add(target)
        targets[file] = target
    _check_writable(out)
    return targets


def _check_writable(out: Path) -> None:
    """Find out before the work is done, not after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error
