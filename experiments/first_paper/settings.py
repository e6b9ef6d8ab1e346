"""Settings of `reproduce`, and presets as settings of a run."""

import dataclasses
from pathlib import Path

from experiments.first_paper.presets import PRESETS
from fairjax.datasets import DATASETS
from fairjax.metrics import MEASURES
from fairjax.runs.fields import current
from fairjax.runs.labels import names
from fairjax.runs.settings import (
    SEEDS,
    Debias,
    NetworkSettings,
    Selection,
    Settings,
    debias_type,
)
from fairjax.runs.values import check_values, expand_paths
from fairjax.selection import RULES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Reproduce Tables 1, 3, 4 and Figures 1, 2, 3 of the first paper, with additional methods for comparison."""

    datasets: tuple[str, ...] = ("adult", "bank", "compas", "mimic")
    """Data sets to run; those whose files are not found are left out. The defaults are the paper's four data sets.
    bank_full and german can be added."""
    measures: tuple[str, ...] = ("spd", "eod")
    """Measures of bias; networks are debiased separately for each."""
    simulations: tuple[int, ...] = SEEDS[:10]
    """Seeds of the simulations for Figure 3, used at each parameter value."""
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    """Values of alpha for Figure 3 (Loh et al.). Give no values to leave this part out."""
    thetas: tuple[float, ...] = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
    """Values of theta for Figure 3 (Zafar et al.). Give no values to leave this part out."""
    out: Path = Path("results/reproduce")
    """Folder of the results. An interrupted reproduction continues from there."""
    each: Debias = Debias(  # type: ignore[valid-type]
        methods=names(), selection=Selection(also=("expected", "pooled"))
    )
    """Settings of every run, except its data set, measure and folder."""

    def __post_init__(self):
        """Validate the settings."""
        expand_paths(self)
        check_values(self)
        for name, registry in (("datasets", DATASETS), ("measures", MEASURES)):
            values = getattr(self, name)
            registry.check(name, *values)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        simulated = [name for name in self.datasets if DATASETS[name].simulator is not None]
        if simulated:
            raise ValueError(f"datasets are benchmark files, got {simulated[0]}: alphas and thetas set the simulations")
        for name in ("simulations", "alphas", "thetas"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {values}")
        if (self.alphas or self.thetas) and not self.simulations:
            raise ValueError(
                "simulations must be one or more seeds, got none; to leave them out, empty alphas and thetas"
            )
        if any(not 0 <= seed < 2**32 for seed in self.simulations):
            raise ValueError(f"simulations must be numbers from 0 to 2^32 - 1, got {self.simulations}")
        if any(alpha < 0 for alpha in self.alphas):
            raise ValueError(f"alphas must not be negative, got {self.alphas}")
        if not self.measures:
            raise ValueError("measures must hold at least one measure, got none")
        several = [name for name in self.datasets if DATASETS[name].several_classes]
        if several or self.each.protected or self.each.across is not None:
            raise ValueError(
                f"reproduce is about two groups and classes, got {several[0] if several else 'protected or across'}: "
                "use debias"
            )
        if self.each.simulation.sweep or self.each.path:
            raise ValueError(
                "each.simulation.sweep and each.path are set for every run: use alphas, thetas, FAIRJAX_DATA"
            )


def preset(name: str) -> Settings:
    """Return the settings of a preset in `experiments.first_paper.presets`.

    Raises:
        ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    chosen = PRESETS[name]
    rule = next(name for name, kind in RULES.items() if type(kind()) is type(chosen.rule))
    values = {
        field.name: getattr(chosen.rule, field.name)
        for field in dataclasses.fields(chosen.rule)
        if field.name != "data"
    }
    return debias_type()(
        network=NetworkSettings(site=chosen.network.site, cut=chosen.network.cut),
        pruning=chosen.pruning,
        bias_gda=chosen.bias_gda,
        random_perturbation=chosen.random_perturbation,
        selection=current(Selection)(rule=rule, **values),
    )
