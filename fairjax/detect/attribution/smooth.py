"""SmoothGrad: gradients averaged over noisy copies of the inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fairjax.detect.attribution.gradients import logits_and_gradients
from fairjax.detect.attribution.inputs import attributable, nan_rows, wide
from fairjax.detect.rows import CHUNK, check_row_wise, map_chunks, num_rows
from fairjax.nn.network import ApplyFn
from fairjax.types import Inputs, KeyArray, Number, Variables


def smooth_gradients(
    key: KeyArray,
    apply: ApplyFn,
    variables: Variables,
    x: Inputs,
    *,
    scale: Number = 0.15,
    samples: int = 50,
    target: int | None = None,
    chunk: int | None = CHUNK,
) -> PyTree[Float[Array, "n ..."]]:
    """Compute SmoothGrad: the mean gradient of the logit at copies of each row with Gaussian noise.

    The noise of a row depends on the key and the number of the row only, not on the chunks.

    Args:
        key: random key of the noise.
        apply: as for `gradients`.
        variables: as for `gradients`.
        x: as for `gradients`.
        scale: standard deviation of the noise, in units of `x`.
        samples: number of noisy copies of each row.
        target: as for `gradients`.
        chunk: as for `gradients`.

    Returns:
        A tree like `x`, in logits per unit of each input; NaN in rows with a logit that is not finite.

    Raises:
        TypeError: as for `gradients`.
        ValueError: if there is no sample, the scale is negative, or as for `gradients`.

    Example:
        >>> square = lambda variables, x, **_: (jnp.sum(x**2, axis=1), variables)
        >>> smooth_gradients(jax.random.key(0), square, {}, jnp.ones((1, 2)), scale=0.0).tolist()
        [[2.0, 2.0]]

    References:
        Smilkov, Thorat, Kim, Viégas, Wattenberg (2017), SmoothGrad.
    """
    if samples < 1:
        raise ValueError(f"samples must be a positive number of noisy copies, got {samples}")
    if not isinstance(scale, jax.core.Tracer) and not np.all(np.asarray(scale) >= 0):
        raise ValueError(f"scale must be a standard deviation, which is not negative, got {scale}")
    x = attributable(x)
    check_row_wise(apply, variables, x)
    return _smooth(apply, variables, key, x, scale, samples, target, chunk)


@partial(jax.jit, static_argnums=(0, 5, 6, 7))
def _smooth(apply, variables, key, x, scale, samples, target, chunk):
    leaves, structure = jax.tree.flatten(x)

    def noisy(sample, numbers, leaves):
        sample_key = jax.random.fold_in(key, sample)

        def of_row(number, *row):
            row_key = jax.random.fold_in(sample_key, number)
            keys = [jax.random.fold_in(row_key, k) for k in range(len(row))]
            return [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, row, strict=True)]

        noise = jax.vmap(of_row)(numbers, *leaves)
        spread = jnp.asarray(scale)
        return [leaf + spread.astype(leaf.dtype) * part for leaf, part in zip(leaves, noise, strict=True)]

    def of_rows(rows):
        numbers, leaves = rows

        def step(carry, sample):
            sums, finite = carry
            copies = jax.tree.unflatten(structure, noisy(sample, numbers, leaves))
            logits, slopes = logits_and_gradients(apply, variables, copies, target)
            sums = jax.tree.map(lambda total, slope: total + slope.astype(total.dtype), sums, slopes)
            return (sums, finite & jnp.isfinite(logits)), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide(leaf)), jax.tree.unflatten(structure, leaves))
        start = zeros, jnp.ones(numbers.shape, bool)
        (sums, finite), _ = jax.lax.scan(step, start, jnp.arange(samples))
        return nan_rows(finite, jax.tree.map(lambda total: total / samples, sums))

    return map_chunks(of_rows, (jnp.arange(num_rows(x)), leaves), chunk=chunk)
