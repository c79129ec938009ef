"""`python -m hrpose`, which is how torchrun starts it: `torchrun -m hrpose train ...`."""

from hrpose.cli.main import main

if __name__ == "__main__":
    main()
