"""Entry point of `python -m experiments`."""

import sys

from fairjax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
