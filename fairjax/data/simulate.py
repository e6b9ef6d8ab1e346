"""Synthetic data whose bias is set by one parameter.

Every generator is a pure function of a key. It can be jitted with static sizes, and mapped over keys and parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fairjax.types import Batch, KeyArray, Number

MEAN = np.array([[-2.0, -2.0], [2.0, 2.0]], np.float32)
"""Means of the two features of Zafar et al. in class 0 and in class 1."""

COVARIANCE = np.array([[[10.0, 1.0], [1.0, 3.0]], [[5.0, 1.0], [1.0, 5.0]]], np.float32)
"""Covariance of the two features of Zafar et al. in class 0 and in class 1."""

HIGHEST = jax.lax.Precision.HIGHEST


def loh(key: KeyArray, n: int, alpha: Number = 1.0) -> Batch:
    """Draw from the model of Loh et al., in which the group's effect on the label has size `alpha`.

    1. Features: X1, X2, X3, X7, X8, X9, X10 ~ N(0, 1), X4 ~ Exp(1), X5 ~ Bernoulli(1/2), and X6 uniform on
       1, ..., 10; corr(X2, X3) = 1/2 and corr(Xj, Xk) = 1/2 for different j, k in {7, 8, 9, 10}.
    2. Protected attribute: A ~ Bernoulli(1/2), independent of the features.
    3. Label: Y ~ Bernoulli(sigmoid(logit)), where (Eq. 9 of Marcinkevics et al.)

       logit = (X1 + X2 - X5) / 2 + 2 alpha A 1{X6 is odd}.

    X6 is one numeric column; encoding its ten categories is left to the caller. Since A is independent of the features,
    a classifier that does not use A has a statistical parity difference of 0 up to sampling error, whatever `alpha`:
    use `append_protected` to make A a feature.

    Args:
        key: Random key.
        n: Number of rows.
        alpha: Size of the effect, not negative; the paper uses 0 to 2.5.

    Returns:
        The rows, with 10 features that are not standardised.

    Raises:
        ValueError: If `n` is less than 1, or `alpha` is a negative Python number.

    Example:
        >>> batch = loh(jax.random.key(0), 1000, alpha=2.0)
        >>> batch.x.shape
        (1000, 10)

    References:
        Loh, Cao, Zhou (2019), Subgroup identification for precision medicine: a comparative review of 13 methods, WIREs
        Data Mining and Knowledge Discovery 9(5), https://doi.org/10.1002/widm.1326
        Marcinkevics, Ozkan, Vogt (2022), Debiasing neural networks using differentiable classification parity proxies,
        ICLR workshop on Socially Responsible Machine Learning, appendix D.1
    """
    _check_size("n", n)
    if isinstance(alpha, int | float) and not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, found {alpha}: its size is the strength of the effect")
    normal_key, exponential_key, coin_key, category_key, label_key = jax.random.split(key, 5)
    normal = jax.random.normal(normal_key, (n, 9))
    exponential = jax.random.exponential(exponential_key, (n, 1))
    coins = jax.random.bernoulli(coin_key, shape=(n, 2))
    category = jax.random.randint(category_key, (n, 1), 1, 11)
    x = jnp.concatenate(
        [
            normal[:, :1],
            _equicorrelated(normal[:, 1:4]),
            exponential,
            coins[:, :1].astype(normal.dtype),
            category.astype(normal.dtype),
            _equicorrelated(normal[:, 4:]),
        ],
        axis=1,
    )
    a = coins[:, 1]
    y = jax.random.bernoulli(label_key, jax.nn.sigmoid(_loh_logit(x, a, alpha)))
    return Batch(x, y, a)


def zafar(
    key: KeyArray,
    n: int,
    theta: Number = 0.8,
    *,
    features: int = 500,
    hidden: int = 100,
    map_key: KeyArray | None = None,
) -> Batch:
    """Draw from the model of Zafar et al. followed by a random nonlinear map; the angle `theta` sets the bias.

    Steps 1 to 5 are those of `zafar_plane`, followed by

    6. g(x~) = Theta2 ReLU(Theta1 ReLU(Theta0 x~ + b0) + b1) + b2 is drawn at random: matrices of `hidden` x 2,
       `hidden` x `hidden` and `features` x `hidden` entries N(0, 2 / columns), vectors of entries N(0, 1).
    7. X = g(x~), where x~ is the point before its rotation.

    The model's authors do not specify the distribution of the weights; `features` and `hidden` default to the sizes in
    their code.

    Args:
        key: Random key.
        n: Number of rows.
        theta: Angle of rotation in radians; the paper uses 0.7 to 1.2, and smaller angles give a larger bias.
        features: Number of features.
        hidden: Width of the map's two hidden layers.
        map_key: Random key of the map. Pass the same one to draw several samples with the same map; if omitted, it is
            derived from `key`.

    Returns:
        The rows, with features that are not standardised.

    Raises:
        ValueError: If `n`, `features` or `hidden` is less than 1.

    Example:
        >>> first, second = jax.random.split(jax.random.key(0))
        >>> train = zafar(first, 100, features=20, map_key=jax.random.key(1))
        >>> test = zafar(second, 50, features=20, map_key=jax.random.key(1))
        >>> train.x.shape, test.x.shape
        ((100, 20), (50, 20))

    References:
        Zafar, Valera, Gomez Rodriguez, Gummadi (2017), Fairness constraints: mechanisms for fair classification,
        AISTATS, https://arxiv.org/abs/1507.05259
        Marcinkevics, Ozkan, Vogt (2022), Debiasing neural networks using differentiable classification parity proxies,
        ICLR workshop on Socially Responsible Machine Learning, appendix D.1
    """
    _check_size("features", features)
    _check_size("hidden", hidden)
    plane_key, derived_key = jax.random.split(key)
    plane = zafar_plane(plane_key, n, theta)
    sizes = (plane.x.shape[1], hidden, hidden, features)
    return plane._replace(x=_random_map(derived_key if map_key is None else map_key, plane.x, sizes))


def zafar_plane(key: KeyArray, n: int, theta: Number = 0.8) -> Batch:
    """Draw from the model of Zafar et al.: two Gaussian classes in the plane, and a group that depends on the position.

    1. Y ~ Bernoulli(1/2).
    2. x~ ~ N([2, 2], [[5, 1], [1, 5]]) if Y = 1, and N([-2, -2], [[10, 1], [1, 3]]) if Y = 0.
    3. x' = [[cos theta, -sin theta], [sin theta, cos theta]] x~ (Eq. 10 of Marcinkevics et al.).
    4. P(A = 1) = p(x' | Y = 1) / (p(x' | Y = 1) + p(x' | Y = 0)), with the densities of step 2.
    5. A ~ Bernoulli(P(A = 1)).

    The code of both papers computes `x @ rotation` with x~ as a row vector, which rotates in the opposite direction to
    Eq. 10 and gives a weaker bias at the same angle: pass `-theta` to reproduce their data.

    Args:
        key: Random key.
        n: Number of rows.
        theta: Angle of rotation in radians; the smaller it is, the more strongly the group depends on the label.

    Returns:
        The rows, with the 2 features x~.

    Raises:
        ValueError: If `n` is less than 1.

    Example:
        >>> zafar_plane(jax.random.key(0), 100).x.shape
        (100, 2)

    References:
        Zafar, Valera, Gomez Rodriguez, Gummadi (2017), Fairness constraints: mechanisms for fair classification,
        AISTATS, https://arxiv.org/abs/1507.05259
    """
    _check_size("n", n)
    y_key, x_key, a_key = jax.random.split(key, 3)
    y = jax.random.bernoulli(y_key, shape=(n,))
    noise = jax.random.normal(x_key, (n, 2))
    x = jnp.where(y[:, None], _gaussian(noise, 1), _gaussian(noise, 0))
    a = jax.random.bernoulli(a_key, jax.nn.sigmoid(_group_logit(x, theta)))
    return Batch(x, y, a)


def append_protected(batch: Batch) -> Batch:
    """Append the protected attribute to the features, as the last one.

    Args:
        batch: Rows.

    Returns:
        The rows with the features `x` and then `a`, 0 or 1.

    Example:
        >>> append_protected(loh(jax.random.key(0), 100)).x.shape
        (100, 11)
    """
    return batch._replace(x=jnp.concatenate([batch.x, batch.a[:, None].astype(batch.x.dtype)], axis=1))


def _check_size(name: str, size: int) -> None:
    if size < 1:
        raise ValueError(f"{name} must be at least 1, found {size}")


def _equicorrelated(noise: Float[Array, "n _"]) -> Float[Array, "n _"]:
    """Make standard normal columns with correlation 1/2: the sum of a shared and an own part of equal variance."""
    return 0.5**0.5 * (noise[:, :1] + noise[:, 1:])


def _loh_logit(x: Float[Array, "n 10"], a: Array, alpha: Number) -> Float[Array, " n"]:
    """Compute the logit of the label (Eq. 9)."""
    odd = x[:, 5] % 2 == 1
    return (x[:, 0] + x[:, 1] - x[:, 4]) / 2 + jnp.where(a & odd, 2 * jnp.asarray(alpha, x.dtype), 0)


def _gaussian(noise: Float[Array, "n 2"], label: int) -> Float[Array, "n 2"]:
    """Transform standard normal noise to points of a class."""
    factor = np.linalg.cholesky(COVARIANCE[label])
    return MEAN[label].astype(noise.dtype)[None, :] + jnp.matmul(noise, factor.T.astype(noise.dtype), precision=HIGHEST)


def _log_density(x: Float[Array, "n 2"], label: int) -> Float[Array, " n"]:
    """Compute the log density of a class, up to a constant shared by both classes."""
    factor = np.linalg.cholesky(COVARIANCE[label])
    whitened = jnp.matmul(
        x - MEAN[label].astype(x.dtype)[None, :], np.linalg.inv(factor).T.astype(x.dtype), precision=HIGHEST
    )
    return -0.5 * jnp.sum(whitened**2, axis=1) - float(np.log(factor.diagonal()).sum())


def _group_logit(x: Float[Array, "n 2"], theta: Number) -> Float[Array, " n"]:
    """Compute the log odds of A = 1 (steps 3 and 4)."""
    theta = jnp.asarray(theta, x.dtype)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    rotated = jnp.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], axis=1)
    return _log_density(rotated, 1) - _log_density(rotated, 0)


def _random_map(key: KeyArray, x: Float[Array, "n _"], sizes: tuple[int, ...]) -> Float[Array, "n _"]:
    """Apply a random network without an activation after its last layer (step 6)."""
    for layer, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
        matrix_key, vector_key = jax.random.split(layer_key)
        fan_in, fan_out = sizes[layer : layer + 2]
        matrix = (2 / fan_in) ** 0.5 * jax.random.normal(matrix_key, (fan_in, fan_out))
        vector = jax.random.normal(vector_key, (1, fan_out))
        x = jnp.matmul(x if layer == 0 else jax.nn.relu(x), matrix, precision=HIGHEST) + vector
    return x
