"""The command line `fairjax`: `fairjax COMMAND --help` explains every setting.

`program` runs a command and translates errors, `commands` holds the commands, `parsing` reads settings from flags and
YAML files, `help` explains them, and `debias` is a whole run: train, debias, write the folder of results.
"""

import sys
from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Run the program `fairjax`, and return its exit status.

    Args:
        words: the arguments; those of the process if omitted.
    """
    try:
        from fairjax.cli.commands import PROGRAM
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "fairjax":
            raise
        needs = f"the command line needs {error.name}, which is not installed: pip install 'fairjax[cli]'"
        print(f"error: {needs}", file=sys.stderr)
        return 2
    return PROGRAM.main(words)
