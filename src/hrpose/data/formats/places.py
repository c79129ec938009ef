"""Where the pictures of a source are, when nobody says it."""

from pathlib import Path

from hrpose.data.formats.people import Given
from hrpose.data.pictures import PictureSource


def beside(source: Path, given: Given) -> PictureSource:
    """The given pictures, else `images` or `images.zip` beside the source, else its own folder."""
    if given.images is not None:
        return given.images
    folder = source if source.is_dir() else source.parent
    for name in ("images", "images.zip"):
        if (folder / name).exists():
            return PictureSource(folder / name)
    return PictureSource(folder)
