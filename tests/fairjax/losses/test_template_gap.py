"""Penalties over template sentences, and directions that are projected out."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import fairjax
from fairjax import data
from fairjax.losses import Data, Loss, Mmd, TemplateGap, template_gap
from fairjax.nn import Mlp, from_linen
from fairjax.preprocess import group_direction, principal_directions, project_out
from fairjax.types import Batch

SCORES = np.random.default_rng(0).uniform(size=(6, 5)).astype(np.float32)
A = np.array([0, 1, 1, 0, 0, 1], bool)


def by_loops(form):
    """Compute the penalty cell by cell and person by person."""
    if form == "people":
        means = [np.mean(row) for row in SCORES]
        return np.mean([(mean - np.mean(means)) ** 2 for mean in means])
    gaps = [np.mean(cell[~A]) - np.mean(cell[A]) for cell in SCORES.T]
    return abs(np.mean(gaps)) if form == "mean" else np.mean(np.square(gaps))


@pytest.mark.parametrize("form", ["mean", "cells", "people"])
def test_the_penalty_is_that_of_loops(form):
    assert template_gap(jnp.asarray(SCORES), A, form) == pytest.approx(by_loops(form), rel=1e-5)


def test_a_group_without_people_gives_no_number():
    assert np.isnan(template_gap(jnp.asarray(SCORES), np.ones(6, bool)))
    with pytest.raises(ValueError, match=r"found \(6, 5\) and \(5,\)"):
        template_gap(jnp.asarray(SCORES), np.ones(5, bool))


def test_training_with_the_penalty_closes_the_gap_of_the_templates():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    dataset = data.from_arrays(x, (x[:, 0] + x[:, 1] > 0).astype(int), np.arange(300) % 2, standardise=False)
    splits = data.split_seeds(dataset, seeds=(1, 2))
    cells = rng.normal(size=(3, 4)).astype(np.float32)
    a = np.arange(8) % 2 == 0
    people = np.where(a, 1.0, -1.0)[:, None] * np.array([[0.0, 1.0, 0.0, 0.0]])  # the second feature names the group
    sentences = jnp.asarray(cells[None] + people[:, None], jnp.float32)
    network = from_linen(Mlp(widths=(8,)))
    keys = jax.random.split(jax.random.key(0))

    def gaps(*terms):
        training = fairjax.Training(epochs=30, batch_size=64, learning_rate=1e-2, keep="last")
        fitted = fairjax.fit_many(network, splits, keys=keys, training=training, loss=Loss(terms=terms))
        scores = jax.vmap(lambda v: jax.nn.sigmoid(network.apply(v, sentences.reshape(-1, 4))[0]))(fitted.variables)
        return np.array([template_gap(row.reshape(8, 3), a) for row in scores])

    assert (gaps() > 0.2).all()
    assert (gaps(TemplateGap(weight=10.0, sentences=sentences, a=a)) < 0.1).all()


def test_projected_rows_are_orthogonal_to_the_directions():
    rng = np.random.default_rng(2)
    h = rng.normal(size=(40, 6)) + np.where(np.arange(40) % 2, 1.0, -1.0)[:, None] * np.arange(6)
    direction = group_direction(h, np.arange(40) % 2 == 1)
    several = jnp.concatenate([direction, 2 * direction + jnp.eye(1, 6)])
    left = project_out(h, several)
    np.testing.assert_allclose(left @ several.T, 0, atol=1e-4)
    np.testing.assert_allclose(project_out(left, several), left, atol=1e-4)
    means = [np.asarray(left)[np.arange(40) % 2 == k].mean(axis=0) for k in (0, 1)]
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)


def test_principal_directions_are_those_of_the_covariance():
    h = np.random.default_rng(3).normal(size=(50, 4)) * np.array([1.0, 5.0, 0.1, 2.0])
    vectors = np.linalg.eigh(np.cov(h.T))[1].T[::-1][:2]
    found = np.asarray(principal_directions(h, 2))
    np.testing.assert_allclose(np.abs(np.sum(vectors * found, axis=1)), 1, rtol=1e-4)
    with pytest.raises(ValueError, match="count must be from 1 to 4"):
        principal_directions(h, 5)


@pytest.mark.parametrize(
    ("a", "classes", "message"),
    [
        (np.array([False, True]), 3, "compares the scores of two classes, found 3 classes"),
        (np.array([True, True]), 2, "needs people of two groups, found .True.: form='people' needs none"),
    ],
)
def test_data_that_the_term_does_not_fit_are_refused(a, classes, message):
    term = TemplateGap(sentences=np.ones((2, 3, 4), np.float32), a=a)
    rows = Batch(np.ones((2, 4), np.float32), np.array([False, True]), a)
    with pytest.raises(ValueError, match=message):
        term.bind(Data(rows, num_classes=classes))


@pytest.fixture
def unhooked():
    """Switch off the tests' type checks, which would fail before the library's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_groups_that_are_not_0_and_1_are_refused(unhooked):
    with pytest.raises(ValueError, match="a must hold 0 and 1 only, found 1, 2"):
        template_gap(jnp.ones((2, 3)), jnp.array([1, 2]))
    assert jnp.isnan(jax.jit(template_gap)(jnp.ones((2, 3)), jnp.array([1, 2])))
    assert template_gap(jnp.array([[0.25], [0.5]]), jnp.array([0, 1])) == 0.25


@pytest.mark.parametrize("terms", [(5.0,), (template_gap,)])
def test_what_is_no_term_is_refused(terms, unhooked):
    with pytest.raises(TypeError, match="terms must be a tuple of terms"):
        Loss(terms=terms)


def test_a_list_is_no_path_of_weights(unhooked):
    with pytest.raises(TypeError, match="the weight of MMD must be a number, or an array for a path of weights"):
        Loss(terms=(Mmd(weight=[1.0, -1.0]),))


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        ([[0.0, 3.0, 0.0], [0.0, -6.0, 0.0]], [1.0, 0.0, 3.0]),
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [1.0, 2.0, 3.0]),
        ([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0, 3.0]),
    ],
)
def test_directions_that_depend_on_each_other_span_no_more(directions, expected):
    found = project_out(jnp.array([[1.0, 2.0, 3.0]]), jnp.array(directions))
    np.testing.assert_allclose(found, [expected], atol=1e-6)
