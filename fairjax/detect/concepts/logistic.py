"""Logistic regression with an L2 penalty, by Newton's method, so that many regressions are one program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fairjax import checks, linalg
from fairjax.types import AnyArray, Number

MAX_STEPS = 100
"""Number of Newton steps after which a regression counts as not converged; most need about 10."""
MAX_HALVINGS = 40
"""Maximum number of times that a step is halved."""


class LogisticRegression(NamedTuple):
    """Coefficients of a logistic regression, named as in scikit-learn."""

    coef: Float[Array, " u"]
    """Change of the logit per unit of each input; NaN if the regression is not defined."""
    intercept: Float[Array, ""]
    """Logit at h = 0."""
    converged: Bool[Array, ""]
    """Whether the minimum was reached. If not, coefficients are those of the last step, and should not be used."""
    steps: Int[Array, ""]
    """Number of Newton steps."""

    def decision_function(self, h: Float[AnyArray, "n u"]) -> Float[Array, " n"]:
        """Compute the logit of each row.

        Example:
            >>> regression = LogisticRegression(jnp.array([1.0, 0.0]), jnp.array(-1.0), jnp.array(True), jnp.array(3))
            >>> regression.decision_function(jnp.array([[3.0, 5.0]])).tolist()
            [2.0]
        """
        with jax.default_matmul_precision("highest"):
            return checks.floating(h) @ self.coef + self.intercept


def logistic_regression(
    h: Float[AnyArray, "n u"],
    y: Any,
    *,
    weights: Any = None,
    penalty: Number = 1.0,
) -> LogisticRegression:
    """Minimise sum_i w_i log(1 + exp(-s_i f(h_i))) + penalty |coef|^2 / 2, where f is linear and s_i = +1 or -1.

    That is scikit-learn's `LogisticRegression(C=1 / penalty)`: the intercept is not penalised, and inputs are used as
    they are, on their scale. Newton's method halves a step that does not decrease the objective, so it converges on
    separable classes, too. It is one loop of array operations: map it over random sets, concepts or seeds with
    `jax.vmap`. Time grows with min(n, u)^3 per step, since with fewer rows than inputs the coefficients are a
    combination of rows, and only that combination is searched for.

    Args:
        h: inputs of n rows, such as activations or their gradients; finite.
        y: classes of the rows: booleans, or 0 and 1.
        weights: non-negative weights of the rows; "balanced" gives both classes equal total weight, n / 2 each; 1 if
            omitted. Rows of weight 0 are ignored.
        penalty: factor of the squared norm, positive.

    Returns:
        Coefficients, and whether they converged. They are NaN, and `converged` is false, if traced values are invalid
        or a class has no rows.

    Raises:
        ValueError: if numbers of rows differ, `h` is not finite, a class has no rows, or the penalty is not positive.

    Example:
        >>> h = jnp.array([[-1.0], [0.0], [1.0], [2.0]])
        >>> regression = logistic_regression(h, jnp.array([0, 0, 1, 1]))
        >>> regression.converged.item(), round(regression.coef.item(), 3)
        (True, 0.958)

    References:
        Pregibon (1981), Logistic regression diagnostics; Boyd, Vandenberghe (2004), Convex optimization, section 9.5.
    """
    h = checks.floating(checks.numeric("h", h))
    labels, valid = checks.indicator("y", checks.vector("y", y))
    if h.ndim != 2 or labels.shape != h.shape[:1]:
        raise ValueError(f"h must have shape (n, units) and y shape (n,), found h {h.shape} and y {labels.shape}")
    if isinstance(weights, str):
        if weights != "balanced":
            raise ValueError(f"weights must be 'balanced' or one number per row, found {weights!r}")
        row_weights, valid_weights = balanced_weights(labels, h.dtype), None
    else:
        row_weights, valid_weights = checks.sample_weights(weights, h)
        row_weights = jnp.ones(h.shape[0], h.dtype) if row_weights is None else row_weights
    _check_values(h, labels, row_weights, penalty)
    results = _minimise(h, labels, row_weights, jnp.asarray(penalty, h.dtype))
    valid = checks.all_valid(valid, valid_weights)
    return results if valid is None else _nan_unless(valid, results)


def balanced_weights(y: Bool[Array, " n"], dtype: Any) -> Float[Array, " n"]:
    """Return weights n / (2 rows of the class), as scikit-learn's `class_weight="balanced"`.

    Example:
        >>> balanced_weights(jnp.array([True, True, False]), jnp.float32).tolist()
        [0.75, 0.75, 1.5]
    """
    n, ones = y.shape[0], jnp.sum(y, dtype=dtype)
    return jnp.where(y, n / (2.0 * jnp.maximum(ones, 1.0)), n / (2.0 * jnp.maximum(n - ones, 1.0))).astype(dtype)


def _check_values(h: Any, y: Any, weights: Any, penalty: Any) -> None:
    """Check the values that are concrete."""
    if not isinstance(penalty, Tracer) and not np.all(np.asarray(penalty) > 0):
        raise ValueError(f"penalty must be positive, found {penalty}: without one, separable classes have no minimum")
    if not isinstance(h, Tracer) and not np.isfinite(np.asarray(h)).all():
        row = int(np.argmin(np.isfinite(np.asarray(h)).all(axis=1)))
        raise ValueError(f"h must be finite, found NaN or infinity in row {row}: drop rows that lack a value")
    if not isinstance(y, Tracer) and not isinstance(weights, Tracer):
        classes = np.asarray(y)[np.asarray(weights) > 0]
        if classes.all() or not classes.any():
            raise ValueError(f"y must have rows of both classes, found {classes.sum()} of class 1 among {classes.size}")


def _nan_unless(condition: Bool[Array, ""], results: LogisticRegression) -> LogisticRegression:
    coef, intercept = (checks.nan_unless(condition, part) for part in (results.coef, results.intercept))
    return LogisticRegression(coef, intercept, results.converged & condition, results.steps)


@jax.jit
def _minimise(
    h: Float[Array, "n u"], y: Bool[Array, " n"], weights: Float[Array, " n"], penalty: Float[Array, ""]
) -> LogisticRegression:
    """Minimise in centred coordinates and, with fewer rows than inputs, in those of the span of the rows."""
    with jax.default_matmul_precision("highest"):
        total = jnp.sum(weights)
        mean = weights @ h / total
        centred = h - mean[None]
        if h.shape[1] > h.shape[0]:
            basis, triangle = linalg.qr(centred.T)
            results = _newton(triangle.T, y, weights, penalty)
            results = results._replace(coef=basis @ results.coef)
        else:
            results = _newton(centred, y, weights, penalty)
        results = results._replace(intercept=results.intercept - mean @ results.coef)
    both = jnp.any(y & (weights > 0)) & jnp.any(~y & (weights > 0))
    finite = jnp.all(jnp.isfinite(results.coef)) & jnp.isfinite(results.intercept)
    return _nan_unless(both & (penalty > 0) & finite, results)


class _State(NamedTuple):
    beta: Float[Array, " v"]
    """Coefficients, and the intercept at the end."""
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    stuck: Bool[Array, ""]
    """Whether no step could be found."""


def _newton(z, y, weights, penalty) -> LogisticRegression:
    """Minimise by Newton's method with step halving.

    The Hessian is scaled to a unit diagonal before it is factorised, which makes the steps independent of the scale of
    each input, and lets float32 suffice.
    """
    design = jnp.concatenate([z, jnp.ones((z.shape[0], 1), z.dtype)], axis=1)
    penalties = jnp.full(design.shape[1], penalty).at[-1].set(0.0)
    sign, epsilon = jnp.where(y, 1.0, -1.0).astype(z.dtype), float(jnp.finfo(z.dtype).eps)
    total = jnp.sum(weights)

    def objective_change(eta, change, beta, direction, t):
        """Return by how much t steps change the objective, summed over rows so that large parts cancel row by row."""
        losses = jax.nn.softplus(-sign * (eta + t * change)) - jax.nn.softplus(-sign * eta)
        return jnp.sum(weights * losses) + jnp.sum(penalties * direction * (t * beta + 0.5 * t**2 * direction))

    def step(state: _State) -> _State:
        eta = design @ state.beta
        p = jax.nn.sigmoid(eta)
        gradient = design.T @ (weights * jnp.where(y, -jax.nn.sigmoid(-eta), p)) + penalties * state.beta
        curvature = weights * p * jax.nn.sigmoid(-eta)
        hessian = (design.T * curvature[None]) @ design + jnp.diag(penalties)
        scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(hessian), epsilon * epsilon * total))
        scaled = hessian * scale[:, None] * scale[None] + jnp.diag(jnp.full_like(scale, 10 * epsilon))
        direction = -scale * linalg.solve_positive(scaled, scale * gradient)
        decrease = -(gradient @ direction)
        objective = jnp.sum(weights * jax.nn.softplus(-sign * eta)) + 0.5 * jnp.sum(penalties * state.beta**2)
        change, slack = design @ direction, epsilon * (1.0 + objective)

        def too_far(search):
            t, halvings = search
            gain = objective_change(eta, change, state.beta, direction, t)
            return ~(gain <= slack - 1e-4 * t * decrease) & (halvings < MAX_HALVINGS)

        halve = (jnp.ones((), z.dtype), jnp.zeros((), jnp.int32))
        t, halvings = jax.lax.while_loop(too_far, lambda search: (search[0] / 2, search[1] + 1), halve)
        stuck = (halvings >= MAX_HALVINGS) | ~jnp.all(jnp.isfinite(direction))
        # The last step is taken, too: near the minimum its error is the square of the error before it.
        beta = jnp.where(stuck, state.beta, state.beta + t * direction)
        return _State(beta, state.steps + 1, ~stuck & (decrease <= 2 * slack), stuck)

    def unfinished(state: _State) -> Array:
        return ~state.converged & ~state.stuck & (state.steps < MAX_STEPS)

    no = jnp.zeros((), bool)
    start = _State(jnp.zeros(design.shape[1], z.dtype), jnp.zeros((), jnp.int32), no, no)
    state = jax.lax.while_loop(unfinished, step, start)
    return LogisticRegression(state.beta[:-1], state.beta[-1], state.converged, state.steps)
