"""Settings of the benchmark of speed. This module imports neither JAX nor PyTorch, since every contender reads it."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

BenchPart = Literal[
    "steps",
    "torch",
    "whole",
    "seeds",
    "rows",
    "width",
    "depth",
    "pruned",
    "brought",
    "detection",
    "reductions",
    "terms",
]
Shape = Literal["compas", "adult"]

SHAPES = {"compas": (6167, 401), "adult": (45222, 98)}
"""Rows and features of the tables; the protected attribute is one of the features and not counted again."""

NOT_IN_IDENTITY = (
    *("parts", "shapes", "threads", "compiled", "out", "timeout"),
    *("scaling_seeds", "scaling_rows", "scaling_widths", "scaling_depths"),
)
"""Settings that choose contenders or the handling of results; the numbers of a contender do not depend on them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure the speed of fairjax, PyTorch, scikit-learn and the machine itself, one process at a time."""

    parts: tuple[BenchPart, ...] = get_args(BenchPart)
    """Parts of the benchmark to run; others can be added to the same results later. steps: the steps of fairjax and the
    machine's limits. torch: the steps of PyTorch and scikit-learn. whole: a whole COMPAS run, including compilation.
    seeds, rows, width, depth, pruned: how costs grow. brought: networks of other frameworks beside fairjax's own.
    detection: attributions and concepts beside captum's. reductions: a grid of multipliers beside Fairlearn's.
    terms: training with each term of the composed loss."""
    shapes: tuple[Shape, ...] = get_args(Shape)
    """Tables that the parts steps and torch use."""
    data: Literal["found", "simulated"] = "found"
    """Source of the tables, found or simulated. found: the real tables if their files are found or can be downloaded,
    else simulated ones. simulated: normal features in tables of the same shapes."""
    rows: int | None = None
    """Number of rows to use from the beginning of each table; all by default."""
    seeds: int = 20
    """Number of networks trained at once, one split per network."""
    widths: tuple[int, ...] = (32,) * 11
    """Number of units in each hidden layer."""
    repetitions: int = 5
    """Number of timings of each measure; results are their medians."""
    epochs: int = 10
    """Number of training epochs per timing."""
    pruning_steps: int = 10
    """Number of pruning steps per timing."""
    bias_gda_epochs: int = 5
    """Number of epochs of bias gradient descent/ascent per timing."""
    torch_epochs: int = 2
    """Number of PyTorch training epochs per timing. A timing trains one seed, or all seeds if they are vectorised."""
    torch_pruning_steps: int = 40
    """Number of PyTorch pruning steps per timing, for one seed."""
    torch_bias_gda_epochs: int = 5
    """Number of PyTorch epochs of bias gradient descent/ascent per timing, for one seed."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads that PyTorch is timed with; the faster one is reported."""
    compiled: bool = True
    """Also time torch.compile. Compilation takes about a minute per number of threads and needs a C++ compiler."""
    copy_mib: int = 256
    """Size in MiB of the array that is copied to measure memory bandwidth."""
    whole_epochs: int = 1000
    """Whole run: maximum number of training epochs."""
    whole_bias_gda_epochs: int = 100
    """Whole run: number of epochs of bias gradient descent/ascent."""
    whole_draws: int = 500
    """Whole run: number of random perturbations."""
    torch_seeds: int = 2
    """Whole run: number of seeds that PyTorch runs; its time is extrapolated to all seeds."""
    scaling_repetitions: int = 3
    """Number of timings of each point in the parts seeds, rows, width and depth."""
    scaling_table: int = 2048
    """Number of rows of the simulated table for the parts width and depth. The table has as many features as Adult."""
    width_seeds: int = 4
    """Number of networks trained at once in the part width. Twenty networks of width 1024 need about 20 GiB."""
    scaling_seeds: tuple[int, ...] = (1, 2, 5, 10, 20, 40, 80, 160, 320)
    """BenchPart seeds: numbers of networks trained at once on COMPAS."""
    scaling_rows: tuple[int, ...] = (10**3, 10**4, 10**5, 10**6, 10**7)
    """BenchPart rows: numbers of rows of simulated tables, which are evaluated chunk by chunk."""
    scaling_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """BenchPart width: numbers of units in every hidden layer."""
    scaling_depths: tuple[int, ...] = (2, 4, 8, 11, 16, 24, 40)
    """BenchPart depth: numbers of hidden layers."""
    resnet_rows: int = 64
    """BenchPart brought: number of images for the influence of a ResNet-18's channels."""
    resnet_size: int = 64
    """BenchPart brought: height and width of these images."""
    nodes: int = 50
    """BenchPart detection: number of nodes of integrated gradients."""
    concept_sets: int = 20
    """BenchPart detection: number of concept vectors per layer, and of random ones."""
    concept_rows: int = 500
    """BenchPart detection: number of examples of a concept vector, and of other rows."""
    multipliers: int = 10
    """BenchPart reductions: number of Lagrange multipliers of the grid."""
    reduction_widths: tuple[int, ...] = (32, 32)
    """BenchPart reductions: number of units in each hidden layer."""
    reduction_epochs: int = 10
    """BenchPart reductions: number of training epochs per network."""
    reduction_repetitions: int = 1
    """BenchPart reductions: number of timings of Fairlearn. A timing is the grid of one seed."""
    term_widths: tuple[int, ...] = (64, 32)
    """BenchPart terms: number of units in each hidden layer."""
    term_epochs: int = 5
    """BenchPart terms: number of training epochs."""
    term_batch_size: int = 256
    """BenchPart terms: number of rows per mini-batch."""
    chunk: int = 65536
    """BenchPart rows: number of rows per chunk."""
    timeout: float = 3600.0
    """Maximum time of one contender in seconds; a contender that takes longer is stopped."""
    out: Path = Path("results/bench")
    """Folder of the results. An interrupted benchmark continues from there."""

    def __post_init__(self):
        """Validate the settings."""
        from fairjax.runs.values import check_values  # imports JAX, which a contender may have to do without

        for name, allowed in (("parts", BenchPart), ("shapes", Shape)):
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
            if value == () and field.name in ("threads", "widths", "reduction_widths", "term_widths"):
                raise ValueError(f"{field.name} must hold at least one number, got none")


def plain(settings: Bench) -> dict[str, Any]:
    """Convert the settings to values that JSON can represent."""
    values = dataclasses.asdict(settings)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {**values, "out": str(settings.out)}


def identity(settings: Bench) -> dict[str, Any]:
    """Return the settings that the numbers depend on, as values that JSON can represent."""
    return {name: value for name, value in plain(settings).items() if name not in NOT_IN_IDENTITY}


def from_plain(values: dict[str, Any]) -> Bench:
    """Restore the settings from the result of `plain`, which were validated before."""
    settings = object.__new__(Bench)
    for name, value in {**values, "out": Path(values["out"])}.items():
        object.__setattr__(settings, name, tuple(value) if isinstance(value, list) else value)
    return settings
