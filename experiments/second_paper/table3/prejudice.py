"""The prejudice remover as its paper has it: a logistic regression per group, fitted to all train rows at once.

The objective is a sum over the rows: the log loss, eta times the index of prejudice, and half the squares of all
weights, constants included. AIF360 has the same objective, but what it descends is not the gradient of it. Everything
is computed in float64.

References:
    Kamishima, Akaho, Asoh, Sakuma: Fairness-aware classifier with prejudice remover regularizer, ECML PKDD 2012.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from fairjax.losses import cross_entropies, prejudice

TOLERANCE = 1e-3
"""Largest absolute derivative of a converged fit. The objective is a sum over all rows, and the penalty alone has a
curvature of 1, so that weights are then within about 0.001 of those at the minimum, or nearer."""

SETTINGS = {"gtol": TOLERANCE, "maxiter": 1000, "initial_trust_radius": 10.0}
"""Settings of SciPy's trust-region method, which needs about 10 iterations."""

AIF360_SETTINGS = {"gtol": 1e-5, "maxiter": 100}
"""Settings of conjugate gradients in AIF360."""


class GroupRows(NamedTuple):
    """Rows in float64, whose features have a constant and not the group."""

    features: Float[np.ndarray, "d n"]
    """One line per feature, by which products are four times as fast; the last one is 1."""
    y: Bool[np.ndarray, " n"]
    """Labels."""
    a: Bool[np.ndarray, " n"]
    """Groups."""


class Fitted(NamedTuple):
    """A fitted logistic regression per group."""

    weights: Float[np.ndarray, "2 d"]
    """Weights of both groups."""
    value: float
    """The objective."""
    slope: float
    """The largest absolute derivative of the objective, whatever was descended."""
    moved: float
    """The largest absolute difference of a weight from the start."""

    @property
    def converged(self) -> bool:
        """Whether the fit is a stationary point of the objective."""
        return self.slope <= TOLERANCE

    def decide(self, rows: GroupRows) -> Bool[np.ndarray, " n"]:
        """Return whether the score of each row is above 0.5."""
        both = self.weights @ rows.features
        return np.where(rows.a, both[1], both[0]) > 0


def group_rows(rows: Any, column: int) -> GroupRows:
    """Return rows in float64, with a constant in place of the feature that is the group.

    Args:
        rows: rows with x, y and a.
        column: number of the feature that is the group.
    """
    x = np.delete(np.asarray(rows.x, np.float64), column, axis=1)
    return GroupRows(np.vstack([x.T, np.ones(len(x))]), np.asarray(rows.y, bool), np.asarray(rows.a, bool))


def standardised(rows: GroupRows, like: GroupRows) -> GroupRows:
    """Return rows all of whose features, of 0 and 1 too, have the scale of other rows; the constant stays as it is."""
    mean, scale = (getattr(like.features[:-1], name)(axis=1, keepdims=True) for name in ("mean", "std"))
    scaled = (rows.features[:-1] - mean) / np.where(scale > 0, scale, 1.0)
    return rows._replace(features=np.vstack([scaled, rows.features[-1:]]))


def logits_of(weights: Float[Array, "2 d"], rows: GroupRows) -> Float[Array, " n"]:
    """Compute the logit of every row by the weights of its group."""
    both = jnp.matmul(weights, rows.features)
    return jnp.where(rows.a, both[1], both[0])


def objective(weights: Float[Array, "2 d"], rows: GroupRows, eta: float) -> Float[Array, ""]:
    """Compute the sum of log losses, eta times the index as a sum over the rows, and the penalty on weights."""
    logits = logits_of(weights, rows)
    index = rows.a.size * prejudice(jax.nn.sigmoid(logits), rows.a, num_groups=2)
    return jnp.sum(cross_entropies(logits, rows.y)) + eta * index + 0.5 * jnp.sum(weights**2)


value_and_gradient = jax.jit(jax.value_and_grad(objective))
"""The objective and its gradient."""


@jax.jit
def hessian(weights: Float[Array, "2 d"], rows: GroupRows, eta: float) -> Float[Array, "D D"]:
    """Compute the second derivatives of the objective, D = 2 d, by a formula much faster than `jax.hessian`.

    With q the mean score of a group and r that of all rows, the derivative of the index (as a sum) by a score is
    log(q / (1 - q)) - log(r / (1 - r)). It is the same for all rows of a group, and depends on sums of scores only.
    """
    p = jax.nn.sigmoid(logits_of(weights, rows))
    members = jnp.stack([~rows.a, rows.a]).astype(p.dtype)
    sizes = jnp.sum(members, axis=1)
    q, r, slopes = jnp.matmul(members, p) / sizes, jnp.mean(p), p * (1.0 - p)
    of_score = jax.scipy.special.logit(q) - jax.scipy.special.logit(r)
    curvatures = slopes * (1.0 + eta * jnp.matmul(of_score, members) * (1.0 - 2.0 * p))
    own = [jnp.matmul(rows.features * (curvatures * member)[None], rows.features.T) for member in members]
    sums = jnp.matmul(members * slopes[None], rows.features.T)  # derivative of each group's sum of scores
    between = jnp.diag(1.0 / (sizes * q * (1.0 - q))) - 1.0 / (p.size * r * (1.0 - r))
    d = len(rows.features)
    whole = eta * jnp.einsum("gi,gh,hj->gihj", sums, between, sums).reshape(2 * d, 2 * d)
    return whole + jax.scipy.linalg.block_diag(*own) + jnp.eye(2 * d, dtype=p.dtype)


@jax.jit
def value_and_aif360_gradient(
    weights: Float[Array, "2 d"], rows: GroupRows, eta: float
) -> tuple[Float[Array, ""], Float[Array, "2 d"]]:
    """Compute the objective, and what AIF360's `LRwPRType4.grad_loss` returns as its gradient.

    With r the mean score of all rows, AIF360 subtracts from the derivative by the weights of a group the sum over that
    group of (p - r) / (r (1 - r)), times the derivative of r as if both groups had the same weights. The sum should be
    over all rows, and is then 0. The two subtracted vectors are opposite.
    """
    value, gradient = jax.value_and_grad(objective)(weights, rows, eta)
    p = jax.nn.sigmoid(logits_of(weights, rows))
    r = jnp.mean(p)
    slope_of_r = jnp.matmul(rows.features, p * (1.0 - p)) / p.size
    sums = jnp.stack([jnp.sum(jnp.where(group, p - r, 0.0)) for group in (~rows.a, rows.a)])
    return value, gradient - eta * jnp.outer(sums / (r * (1.0 - r)), slope_of_r)


def minimum(rows: GroupRows, eta: float, start: Float[np.ndarray, "2 d"] | None = None) -> Fitted:
    """Minimise the objective with its exact derivatives by a trust-region method.

    Args:
        rows: the train rows.
        eta: weight of the index of prejudice.
        start: weights to start from; 0 if omitted.
    """
    start = np.zeros((2, len(rows.features))) if start is None else start
    with jax.enable_x64(True):
        evaluate, curvature = _of_flat(value_and_gradient, rows, eta), _of_flat(hessian, rows, eta)
        found = minimize(evaluate, start.ravel(), jac=True, hess=curvature, method="trust-exact", options=SETTINGS)
        return _fitted(found.x, start, rows, eta)


def separate_regressions(rows: GroupRows) -> Float[np.ndarray, "2 d"]:
    """Fit scikit-learn's logistic regression to each group, as AIF360 does to start from it."""
    plain = LogisticRegression(C=1.0, max_iter=1000, fit_intercept=False)
    x = rows.features.T
    return np.vstack([plain.fit(x[rows.a == group], rows.y[rows.a == group]).coef_ for group in (False, True)])


def aif360_fit(rows: GroupRows, eta: float, start: Float[np.ndarray, "2 d"]) -> Fitted:
    """Do what AIF360's `PrejudiceRemover` does: conjugate gradients with what it has for a gradient.

    Since it is not the gradient of the objective, a line search soon fails; AIF360 takes the weights reached by then.

    Args:
        rows: the train rows.
        eta: weight of the index of prejudice.
        start: weights to start from, from `separate_regressions`.
    """
    with jax.enable_x64(True):
        evaluate = _of_flat(value_and_aif360_gradient, rows, eta)
        found = minimize(evaluate, start.ravel(), jac=True, method="CG", options=AIF360_SETTINGS)
        return _fitted(found.x, start, rows, eta)


def _of_flat(function: Callable[..., Any], rows: GroupRows, eta: float) -> Callable[[np.ndarray], Any]:
    """Make a function of weights, rows and eta one of flat weights that returns NumPy arrays."""
    on_device = jax.tree.map(jnp.asarray, rows)

    def of_flat(flat: np.ndarray) -> Any:
        found = function(jnp.asarray(flat.reshape(2, -1)), on_device, eta)
        if isinstance(found, tuple):
            return float(found[0]), np.asarray(found[1]).ravel()
        return np.asarray(found)

    return of_flat


def _fitted(flat: np.ndarray, start: Float[np.ndarray, "2 d"], rows: GroupRows, eta: float) -> Fitted:
    value, gradient = _of_flat(value_and_gradient, rows, eta)(flat)
    weights = flat.reshape(2, -1)
    return Fitted(weights, value, float(np.max(np.abs(gradient))), float(np.max(np.abs(weights - start))))
