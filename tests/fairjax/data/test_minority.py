"""A small group whose labels follow another rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.data import minority


def test_the_rule_of_the_minority_is_turned():
    draw = jax.jit(lambda key, angle: minority(key, 20_000, angle, share=0.5))
    for angle in (75.0, 20.0):
        rows = draw(jax.random.key(0), angle)
        x, y, a = (np.asarray(leaf, np.float64) for leaf in rows)
        assert (a == 0).sum() == 10_000
        for group, turn in ((1, 0.0), (0, np.deg2rad(angle))):
            signs = 2 * y[a == group] - 1
            direction = (x[a == group][:, 1:3] * signs[:, None]).mean(axis=0)
            np.testing.assert_allclose(np.arctan2(*direction[::-1]), turn, atol=0.05)
            p = 1 / (1 + np.exp(-4 * (np.cos(turn) * x[a == group, 1] + np.sin(turn) * x[a == group, 2])))
            np.testing.assert_allclose(np.mean((p - y[a == group]) ** 2), np.mean(p * (1 - p)), atol=0.01)
        np.testing.assert_allclose(x[a == 0].mean(axis=0), [2.0, *[0.0] * 9], atol=0.05)
        np.testing.assert_allclose(x[a == 1].mean(axis=0), 0.0, atol=0.05)


def test_the_share_of_the_minority_is_exact():
    rows = minority(jax.random.key(0), 4000, features=3)
    assert rows.x.shape == (4000, 3) and (~rows.a).sum() == 120 and rows.y.dtype == bool
    halves = jnp.stack([(~rows.a[:2000]).sum(), (~rows.a[2000:]).sum()])
    assert halves.min() > 30  # in random order


@pytest.mark.parametrize(("options", "message"), [({"features": 2}, "at least 3"), ({"share": 0.0}, "found 0 of 100")])
def test_invalid_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        minority(jax.random.key(0), 100, **options)
