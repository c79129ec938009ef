"""`python -m tools.figures`: make the figures of "How HRNet works"."""

from pathlib import Path

from hrpose.io import write_atomically
from tools.figures import exchange, images, network

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images" / "how"


def main() -> None:
    """Write all of them into docs/images/how."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "network.svg": network.drawing(),
        "exchange.svg": exchange.drawing(),
    }.items():
        write_atomically(FOLDER / name, text)
    for name, content in images.all_of_them():
        write_atomically(FOLDER / name, content)
    for file in sorted(FOLDER.iterdir()):
        print(f"{file.stat().st_size / 1000:7.1f} kB  {file.name}")


if __name__ == "__main__":
    main()
