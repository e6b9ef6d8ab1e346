"""What the benchmark of speed is told. Nothing of JAX or PyTorch is imported here: every contender reads it."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

from experiments.values import check_values

Part = Literal["steps", "torch", "whole", "seeds", "rows", "width", "depth", "pruned"]
Shape = Literal["compas", "adult"]

SHAPES = {"compas": (6167, 401), "adult": (45222, 98)}
"""Rows and features of the tables, the protected attribute not counted: it is one of the features."""

CIRCUMSTANCES = (
    *("parts", "shapes", "threads", "compiled", "out", "timeout"),
    *("scaling_seeds", "scaling_rows", "scaling_widths", "scaling_depths"),
)
"""Settings that say who is measured, and how numbers are kept, but that no contender's numbers depend on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure the speed of fairjax beside PyTorch's, scikit-learn's and that of the machine, one process at a time."""

    parts: tuple[Part, ...] = get_args(Part)
    """steps: our steps and the machine's limits. torch: PyTorch's and scikit-learn's steps. whole: a whole COMPAS run,
    and compilation. seeds, rows, width, depth, pruned: how cost grows. Other parts may be added later to one file."""
    shapes: tuple[Shape, ...] = get_args(Shape)
    """Tables for steps and torch."""
    data: Literal["found", "simulated"] = "found"
    """The real tables where their files are found or downloaded, else tables of normal numbers of the same shape."""
    rows: int | None = None
    """So many rows of each table, the first; all if omitted."""
    seeds: int = 20
    """Networks trained at once, one split each."""
    widths: tuple[int, ...] = (32,) * 11
    """Units of each hidden layer."""
    repetitions: int = 5
    """Timings of everything; results are their medians."""
    epochs: int = 10
    """Epochs of training in one timing."""
    pruning_steps: int = 10
    """Pruning steps in one timing."""
    bias_gda_epochs: int = 5
    """Epochs of bias gradient descent/ascent in one timing."""
    torch_epochs: int = 2
    """Epochs of training of one seed in one timing of PyTorch; of all seeds where they are vectorised."""
    torch_pruning_steps: int = 40
    """Pruning steps of one seed in one timing of PyTorch."""
    torch_bias_gda_epochs: int = 5
    """Epochs of bias gradient descent/ascent of one seed in one timing of PyTorch."""
    threads: tuple[int, ...] = (1, 2)
    """PyTorch's threads; the better count is quoted."""
    compiled: bool = True
    """Try torch.compile as well: a minute for each count of threads, and it needs a C++ compiler."""
    copy_mib: int = 256
    """Size of the array that is copied to measure memory bandwidth."""
    whole_epochs: int = 1000
    """Whole run: epochs of training, at most."""
    whole_bias_gda_epochs: int = 100
    """Whole run: epochs of bias gradient descent/ascent."""
    whole_draws: int = 500
    """Whole run: random perturbations."""
    torch_seeds: int = 2
    """Whole run: seeds that PyTorch runs; its time is extrapolated to all of them."""
    scaling_repetitions: int = 3
    """Timings of every point of the parts seeds, rows, width and depth."""
    scaling_table: int = 2048
    """Rows of the simulated table for width and depth; it has Adult's features."""
    width_seeds: int = 4
    """Networks trained at once for the part width: twenty of width 1024 take some 20 GiB."""
    scaling_seeds: tuple[int, ...] = (1, 2, 5, 10, 20, 40, 80, 160, 320)
    """Numbers of networks trained at once, on COMPAS."""
    scaling_rows: tuple[int, ...] = (10**3, 10**4, 10**5, 10**6, 10**7)
    """Rows of drawn tables that are evaluated chunk by chunk."""
    scaling_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Units of every hidden layer."""
    scaling_depths: tuple[int, ...] = (2, 4, 8, 11, 16, 24, 40)
    """Hidden layers."""
    chunk: int = 65536
    """Rows of a chunk."""
    timeout: float = 3600.0
    """Seconds after which a contender is given up."""
    out: Path = Path("results/bench")
    """Folder of the results. A benchmark stopped before its end continues there."""

    def __post_init__(self):
        """Refuse values that mean nothing."""
        for name, allowed in (("parts", Part), ("shapes", Shape)):
            values = getattr(self, name)
            unknown = [value for value in values if value not in get_args(allowed)]
            if unknown or not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be some of {', '.join(get_args(allowed))}, each once, got {values}")
        check_values(self)
        if self.rows is not None and self.rows < 100:
            raise ValueError(f"rows must be at least 100, so that every part has every group, got {self.rows}")
        if self.scaling_table < 100:
            raise ValueError(f"scaling_table must be at least 100 rows, got {self.scaling_table}")
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout must be a number of seconds, got {self.timeout}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and number < 1 and number is not False for number in numbers):
                raise ValueError(f"{field.name} must be positive, got {value}")
            if value == () and field.name in ("threads", "widths"):
                raise ValueError(f"{field.name} must hold at least one number, got none")


def plain(settings: Bench) -> dict[str, Any]:
    """The settings as JSON holds them."""
    values = dataclasses.asdict(settings)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {**values, "out": str(settings.out)}


def identity(settings: Bench) -> dict[str, Any]:
    """What the numbers depend on, as JSON holds it."""
    return {name: value for name, value in plain(settings).items() if name not in CIRCUMSTANCES}


def from_plain(values: dict[str, Any]) -> Bench:
    """The settings again, from what `plain` made."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Bench(**{**values, "out": Path(values["out"])})
