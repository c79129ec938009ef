"""The hrpose command line with w32-small: `python -m tools.distillation evaluate ...`."""

from hrpose.cli.main import main
from tools.distillation.network import register

if __name__ == "__main__":
    register()
    main()
