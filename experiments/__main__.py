"""Entry point of `python -m experiments`."""

import sys

from experiments.cli import PROGRAM

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
