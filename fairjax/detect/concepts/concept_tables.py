"""Tables of probes and TCAV results for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fairjax.detect.concepts.probe import Probes
from fairjax.detect.concepts.tcav import Tcav

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("score", "random_score", "p", "sensitivity", "sensitivity_p", "magnitude", "accuracy")


def tcav_table(results: Mapping[str, Mapping[str, Tcav]]) -> "pd.DataFrame":
    """Arrange TCAV results as a table with one row per layer and concept.

    Args:
        results: from `tcav`; with a leading axis of seeds, there is one row per seed as well.

    Returns:
        The columns layer, concept, (seed,) score, random_score, p, sensitivity, sensitivity_p, magnitude, accuracy and
        note, which says why numbers are missing or what they mean.

    Example:
        >>> numbers = [np.array(0.5)] * 9
        >>> one = Tcav(*numbers, refused=np.array(True), degenerate=np.array(False), converged=np.array(True))
        >>> tcav_table({"hidden_00": {"women": one}}).note[0]
        'refused: not predictable from this layer (balanced accuracy 0.50)'
    """
    import pandas as pd

    rows = []
    for layer, of_layer in results.items():
        for concept, result in of_layer.items():
            parts = {name: np.asarray(part) for name, part in result._asdict().items()}
            for seed, one in _by_seed(parts):
                numbers = {name: float(one[name]) for name in _NUMBERS}
                rows.append({"layer": layer, "concept": concept, **seed, **numbers, "note": _note(one)})
    return pd.DataFrame(rows)


def _note(one: Mapping[str, Any]) -> str:
    """Say why numbers are missing, or what they mean."""
    if not one["converged"]:
        return "not estimable: the regressions did not converge, or the concept has too few rows"
    if one["refused"]:
        found = f"{float(one['accuracy']):.2f}" if np.isfinite(one["accuracy"]) else "not estimable"
        return f"refused: not predictable from this layer (balanced accuracy {found})"
    if np.isnan(one["score"]):
        return "not estimable: no row counts, or inputs or derivatives are not numbers"
    if np.isnan(one["random_score"]):
        return "no test: a regression of the random sets did not converge"
    if one["degenerate"]:
        return "degenerate: the gradient is the same for all rows, so read the sensitivity instead of the score"
    return ""


def probe_table(probes: Probes) -> "pd.DataFrame":
    """Arrange probes as a table with one row per layer, after that of the input.

    Args:
        probes: from `probe`; with a leading axis of seeds, there is one row per seed, too.

    Returns:
        The columns layer, (seed,) balanced_accuracy, auc, and, if there is an untrained network,
        untrained_balanced_accuracy and untrained_auc.

    Example:
        >>> from fairjax.detect.concepts.probe import ProbeQuality
        >>> quality = ProbeQuality(np.array(0.75), np.array(0.8), np.array(True))
        >>> probe_table(Probes({"hidden_00": quality}, quality, None)).balanced_accuracy.tolist()
        [0.75, 0.75]
    """
    import pandas as pd

    rows = []
    for layer, quality in {"input": probes.input, **probes.layers}.items():
        parts = {"balanced_accuracy": np.asarray(quality.balanced_accuracy), "auc": np.asarray(quality.auc)}
        if probes.untrained is not None:
            other = probes.untrained.get(layer)
            for name in ("balanced_accuracy", "auc"):
                missing = np.full(parts[name].shape, np.nan)
                parts[f"untrained_{name}"] = missing if other is None else np.asarray(getattr(other, name))
        for seed, one in _by_seed(parts):
            rows.append({"layer": layer, **seed, **{name: float(value) for name, value in one.items()}})
    return pd.DataFrame(rows)


def _by_seed(parts: Mapping[str, np.ndarray]) -> list[tuple[dict[str, int], dict[str, Any]]]:
    """Split results along their leading axis of seeds, if there is one."""
    if next(iter(parts.values())).ndim == 0:
        return [({}, dict(parts))]
    count = len(next(iter(parts.values())))
    return [
        ({"seed": i}, {name: np.broadcast_to(part, (count, *part.shape[1:]))[i] for name, part in parts.items()})
        for i in range(count)
    ]
