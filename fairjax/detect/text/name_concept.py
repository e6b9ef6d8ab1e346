"""Whether a logit depends on the direction between two groups of names, with names as the units of the test."""

from typing import NamedTuple

import numpy as np

from fairjax.detect.text.relabelling import group_differences, relabelled
from fairjax.types import AnyArray, KeyArray


class NameConcept(NamedTuple):
    """How logits depend on the direction from the names with a=1 to those with a=0 in one layer."""

    score: float
    """TCAV score: share of the sentences whose logit rises in this direction."""
    random_score: float
    """Mean score of the directions between names relabelled at random."""
    random_sd: float
    """Standard deviation of these scores."""
    sensitivity: float
    """Mean derivative of the logit in this direction, in logits per unit of activation."""
    p: float
    """Share of relabellings whose sensitivity is at least as large in absolute value, the given groups included."""


def name_concept(
    activations: AnyArray,
    gradients: AnyArray,
    a: AnyArray,
    *,
    key: KeyArray,
    strata: AnyArray | None = None,
    draws: int = 1000,
) -> NameConcept:
    """Test whether a logit depends on the direction between two groups of names.

    The direction is the difference of the groups' mean activations, of length 1. It is compared with directions between
    names relabelled at random, since any two sets of names differ in some direction: concept vectors whose random
    counterparts mix all names find one in every layer.

    Args:
        activations: mean activation of every name over its sentences in one layer, (people, units).
        gradients: derivative of the logit of each sentence with respect to these units, (sentences, units), such as
            those of `unit_gradients`; sentences with other names are better.
        a: the group of each name, booleans (people,).
        key: random key of the relabellings.
        strata: another attribute of the names, (people,), within which groups are permuted.
        draws: number of relabellings.

    Returns:
        Score and sensitivity of the direction, beside those of random directions. NaN if the groups have one mean.

    Raises:
        ValueError: if shapes differ, numbers are not finite, a group has no names, or there is nothing to relabel.

    Example:
        >>> import jax
        >>> activations, gradients = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 1.1], [1.1, 1.0]]), np.ones((3, 2))
        >>> a = np.array([True, True, False, False])
        >>> found = name_concept(activations, gradients, a, key=jax.random.key(0))
        >>> found.score, round(found.sensitivity, 2)
        (1.0, 1.05)

    References:
        Kim et al. (2018), Interpretability beyond feature attribution: quantitative testing with concept activation
        vectors; Martin et al. (2019) for the difference of means as the vector.
    """
    h, slopes, a = np.asarray(activations, np.float64), np.asarray(gradients, np.float64), np.asarray(a)
    if h.ndim != 2 or slopes.ndim != 2 or a.shape != h.shape[:1] or slopes.shape[1] != h.shape[1]:
        raise ValueError(
            "activations must be of shape (people, units), gradients (sentences, units) and a (people,), got "
            f"{h.shape}, {slopes.shape} and {a.shape}"
        )
    if a.dtype != bool or not (np.isfinite(h).all() and np.isfinite(slopes).all()):
        found = f"a of type {a.dtype}" if a.dtype != bool else "numbers that are NaN or infinite"
        raise ValueError(f"a must be booleans and activations and gradients finite, got {found}")
    if a.all() or not a.any() or draws < 1:
        raise ValueError(f"each group needs names and draws must be positive, got {int(a.sum())} of {len(a)}, {draws}")
    vectors = group_differences(np.vstack([a, relabelled(key, a, strata, draws)]), h)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = vectors[lengths > 0] / lengths[lengths > 0, None]
    if not lengths[0] > 0:
        return NameConcept(*[float("nan")] * 5)
    scores = np.array([np.mean(slopes @ vector > 0) for vector in vectors])  # one by one, to bound memory
    sensitivities = vectors @ slopes.mean(axis=0)
    extreme = np.abs(sensitivities[1:]) >= abs(sensitivities[0]) - 1e-12 * np.abs(sensitivities).max()
    return NameConcept(
        score=float(scores[0]),
        random_score=float(np.mean(scores[1:])) if len(scores) > 1 else float("nan"),
        random_sd=float(np.std(scores[1:], ddof=1)) if len(scores) > 2 else float("nan"),
        sensitivity=float(sensitivities[0]),
        p=float((1 + extreme.sum()) / len(vectors)),
    )
