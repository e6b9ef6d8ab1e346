"""Whether layers encode the group, and whether the logit depends on that: probes, TCAV, concept addition, units."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.adapters._bringing import TrainedInit
from fairjax.detect.concepts import (
    Probes,
    concept_addition,
    concept_vectors,
    layer_names,
    probe,
    probe_table,
    selectivity,
    tcav,
    tcav_table,
)
from fairjax.nn import Network
from fairjax.runs.detecting.applies import activation_shapes, needs_two_groups
from fairjax.runs.detecting.subject import Subject

_UNTRAINED = ("untrained_balanced_accuracy", "untrained_auc")


def unfit(subject: Subject) -> str | None:
    """Return why the section does not apply; None if it does."""
    widths = [shape[-1] for shape in activation_shapes(subject).values()]
    if not widths:
        return "needs a network that shows the activations of its layers"
    if max(widths) > subject.settings.concept_rows:
        return (
            f"needs as many rows per concept vector as there are units in a layer, {max(widths)}: set --concept-rows "
            f"to at least that, found {subject.settings.concept_rows}"
        )
    return needs_two_groups(subject)


def compute(subject: Subject) -> dict[str, pd.DataFrame]:
    """Probe every layer for the group, test TCAV, add the concept, and look at single units, for each seed."""
    network, settings = subject.network, subject.settings
    options: Any = {"draws": settings.concept_sets, "size": settings.concept_rows}

    def of_seed(variables: Any, split: Any, key: Any) -> Any:
        init_key, tcav_key = jax.random.split(key)
        train, test = split.part("train"), split.part("test")
        untrained = _untrained(network, init_key, jax.tree.map(lambda leaf: leaf[:1], train.x))
        probes = probe(network, variables, train, test, untrained=untrained)
        concepts = {"group": ~train.a}
        tested = tcav(
            network, variables, train.x, concepts, test.x, key=tcav_key, counted=test.y.astype(bool), **options
        )
        vectors = concept_vectors(network, variables, train.x, concepts)
        directions = {layer: found["group"].vector for layer, found in vectors.items()}
        added = concept_addition(network, variables, test.x, directions, concept=~test.a)
        members = jnp.stack([~test.a, test.a]).astype(jnp.float32)
        shares = members / jnp.sum(members, axis=1, keepdims=True)
        effects = {layer: (jnp.matmul(shares, one.effect, precision="highest"), one.t) for layer, one in added.items()}
        return probes, tested, effects, selectivity(network, variables, test)

    probes, tested, effects, units = subject.over_seeds(of_seed)
    layers = layer_names(subject.variables)
    return {
        "probes": _probes(subject, probes),
        "tcav": _with_seeds(subject, tcav_table(tested)).drop(columns="concept"),
        "concept_addition": _addition(subject, {layer: effects[layer] for layer in layers}),
        "units": _units(subject, {layer: units[layer] for layer in layers}),
    }


def _untrained(network: Network, key: Any, x: Any) -> Any:
    """Return variables with random weights; None for a network that was brought, which has no initialisation."""
    return None if isinstance(network.init, TrainedInit) else network.init(key, x)


def _probes(subject: Subject, probes: Probes) -> pd.DataFrame:
    """Return one row per seed and layer; what random weights give is NaN if there are none."""
    table = _with_seeds(subject, probe_table(probes))
    return table if probes.untrained is not None else table.assign(**dict.fromkeys(_UNTRAINED, np.nan))


def _with_seeds(subject: Subject, table: pd.DataFrame) -> pd.DataFrame:
    """Replace the positions of seeds by the seeds, in the first column."""
    seeds = np.array(subject.seeds)[table.pop("seed").to_numpy()]
    table.insert(0, "seed", seeds)
    return table


def _addition(subject: Subject, effects: dict[str, Any]) -> pd.DataFrame:
    """Return one row per seed and layer with the mean effects on each group."""
    frames = []
    for layer, (means, step) in effects.items():
        content = {"seed": subject.seeds, "layer": layer, "step": step}
        content |= {f"effect, {name}": means[:, g] for g, name in enumerate(subject.groups)}
        frames.append(pd.DataFrame(content))
    return pd.concat(frames, ignore_index=True)


def _units(subject: Subject, units: dict[str, Any]) -> pd.DataFrame:
    """Return one row per seed, layer and unit."""
    frames = []
    for layer, found in units.items():
        for number in range(len(subject.seeds)):
            content = {"layer": layer, "unit": np.arange(found.auc.shape[1])}
            content |= {"d_prime": found.d_prime[number], "auc": found.auc[number]}
            frames.append(subject.frame(number, content))
    return pd.concat(frames, ignore_index=True)
