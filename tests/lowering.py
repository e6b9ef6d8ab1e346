"""Make whole runs, export every program that they call for GPUs and TPUs, and print what was exported.

`jax.jit` is replaced before fairjax is imported, so no list of programs has to be kept: whatever a run compiles, from
the drawing of its tables to the portfolio, is exported once for each set of argument shapes. `test_lowering.py` runs
this script in a separate process and checks what it prints.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import one_context

PLATFORMS = ("cuda", "tpu")
_jit = jax.jit


class ExportedProgram:
    """A function made by `jax.jit` that is exported for all platforms whenever it is called with new shapes."""

    made: list["ExportedProgram"] = []
    """All programs in the order in which they were defined."""

    def __init__(self, function, **options):
        functools.update_wrapper(self, function)
        self.program = _jit(function, **options)
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.signatures: set[Any] = set()
        self.made.append(self)

    def __call__(self, *args, **options):
        """Export the program unless its arguments are traced or had these shapes before, and execute it."""
        leaves, structure = jax.tree.flatten((args, options))
        signature = (structure, *map(_signature, leaves))
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) and signature not in self.signatures:
            text = jax.export.export(self.program, platforms=PLATFORMS)(*args, **options).mlir_module()
            assert "stablehlo" in text and "callback" not in text, f"{self.name} calls back to the host"
            self.signatures.add(signature)
        return self.program(*args, **options)

    def __getattr__(self, name):
        return getattr(self.program, name)  # lower, eval_shape and the like

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)


def _signature(leaf):
    """Return the shape and type of an array, or the argument itself if it is a number or static."""
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


def jit(function=None, **options):
    """Make an exported program, like `jax.jit` also as a decorator with options."""
    return functools.partial(jit, **options) if function is None else ExportedProgram(function, **options)


def main():
    """Make two runs with every program exported, and print the programs."""
    one_context.install()
    jax.jit = jit  # here, so that importing this module changes nothing, and before fairjax defines its programs

    import pandas as pd
    from rich.console import Console

    from fairjax import METHODS, RULES
    from fairjax.cli.debias import run
    from fairjax.runs.labels import PORTFOLIO
    from fairjax.runs.postprocessors import POSTPROCESSORS
    from fairjax.runs.settings import NetworkSettings, Selection, Simulation, debias_type
    from fairjax.training import Training

    def settings_of(out, tables, **options):
        """Return settings of a run of two small networks."""
        return debias_type()(
            out=out,
            seeds=(1, 2),
            simulation=Simulation(rows=200, tables=tables),
            network=NetworkSettings(widths=(4,)),
            training=Training(epochs=2, batch_size=32, check_every=1),
            **options,
        )

    jax.config.update("jax_disable_most_optimizations", True)  # the numbers are not looked at
    first, *others = RULES
    programs = [name for name, entry in POSTPROCESSORS.items() if entry.decide is None]
    methods, rules = (*METHODS, PORTFOLIO, *programs), Selection(rule=first, also=tuple(others))
    with tempfile.TemporaryDirectory() as folder:
        fixed, redrawn = Path(folder) / "fixed", Path(folder) / "redrawn"
        run(settings_of(fixed, "fixed", methods=methods, selection=rules), Console(quiet=True))
        run(settings_of(redrawn, "redrawn", methods=("standard",)), Console(quiet=True))
        results = pd.read_csv(fixed / "results.csv", keep_default_na=False)
    for method, rule in dict.fromkeys(zip(results["method"], results["rule"], strict=True)):
        print("result", method, rule)
    for program in ExportedProgram.made:
        print("program", program.name, len(program.signatures))


if __name__ == "__main__":
    main()
