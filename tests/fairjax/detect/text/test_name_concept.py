"""The direction between groups of names: tested against names relabelled at random."""

import jax
import numpy as np
import pytest

from fairjax.detect.text import name_concept

A = np.arange(40) % 2 == 0
GENDER = np.arange(40) % 4 < 2


def data(seed, effect):
    """Return activations of names that differ at random, and by an effect between groups in the first unit."""
    generator = np.random.default_rng(seed)
    activations = generator.normal(size=(40, 6))
    activations[~A, 0] += effect
    return activations, generator.normal(size=(200, 6)) * 0.3 + np.array([1.0, 0, 0, 0, 0, 0])


def result_of(activations, gradients, a=A, **options):
    return name_concept(activations, gradients, a, key=jax.random.key(1), **options)


def test_numbers_are_those_of_the_difference_of_means():
    activations, gradients = data(0, 1.0)
    vector = activations[~A].mean(axis=0) - activations[A].mean(axis=0)
    vector /= np.linalg.norm(vector)
    found = result_of(activations, gradients, draws=50)
    np.testing.assert_allclose(found.sensitivity, (gradients @ vector).mean())
    np.testing.assert_allclose(found.score, (gradients @ vector > 0).mean())
    assert 0.3 < found.random_score < 0.7 and found.random_sd > 0.1


def test_a_direction_that_matters_is_found_and_names_without_groups_give_no_more_than_chance():
    assert result_of(*data(0, 3.0), strata=GENDER).p < 0.02
    p = [result_of(*data(seed, 0.0), strata=GENDER, draws=99).p for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) < 0.15 and 0.35 < np.mean(p) < 0.65


def test_groups_of_one_mean_have_no_direction():
    assert np.isnan(result_of(np.ones((40, 2)), np.ones((3, 2)), draws=5)).all()


@pytest.mark.parametrize(
    ("activations", "gradients", "a", "message"),
    [
        (np.ones((4, 2)), np.ones((3, 3)), [True, True, False, False], r"got \(4, 2\), \(3, 3\) and \(4,\)"),
        (np.ones((4, 2)), np.ones((3, 2)), [1, 1, 0, 0], "a of type int64"),
        (np.full((4, 2), np.nan), np.ones((3, 2)), [True, True, False, False], "NaN or infinite"),
        (np.ones((4, 2)), np.ones((3, 2)), [True] * 4, "each group needs names"),
    ],
)
def test_bad_input_is_refused(activations, gradients, a, message):
    with pytest.raises(ValueError, match=message):
        result_of(activations, gradients, np.array(a))
