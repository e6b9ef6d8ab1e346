"""Flat variables: dtypes, values and structure come back, and what cannot is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairjax.nn import FlatVariables

FLOATS = ("float32", "bfloat16", "float16")
ANY = (*FLOATS, "int32", "int8", "uint32", "bool")
SHAPES = ((), (3,), (2, 0), (2, 1, 2))


def array(dtype, shape, seed):
    """Return random values that use the whole range of a dtype."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return jnp.asarray(rng.random(shape) < 0.5)
    if dtype in FLOATS:
        return jnp.asarray(rng.normal(size=shape).astype(np.float32)).astype(dtype)
    limits = np.iinfo(dtype)
    return jnp.asarray(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))


def leaves(dtypes):
    return st.tuples(st.sampled_from(dtypes), st.sampled_from(SHAPES), st.integers(0, 99)).map(lambda it: array(*it))


def trees(dtypes):
    return st.dictionaries(st.sampled_from("abcd"), leaves(dtypes) | st.lists(leaves(dtypes), max_size=2), max_size=3)


@given(trees(FLOATS), trees(ANY), trees(ANY))
def test_every_leaf_comes_back_with_its_dtype(params, first, second):
    variables = {"zeta": first, "params": params, "masks": {"u": jnp.array([True, False])}, "alpha": second}
    flat = FlatVariables.ravel(variables)
    restored = flat.variables()
    chex.assert_trees_all_equal_structs(restored, variables)
    chex.assert_trees_all_equal_dtypes(restored, variables)
    chex.assert_trees_all_equal(restored, variables)
    assert FlatVariables.ravel(restored).layout == flat.layout
    chex.assert_trees_all_equal(flat.rest_of(restored), flat.rest)
    on_host = jax.tree.map(np.asarray, flat).variables()
    chex.assert_trees_all_equal_dtypes(on_host, variables)
    chex.assert_trees_all_equal(on_host, variables)


VARIABLES = {
    "params": {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.zeros(3)},
    "masks": {"u": jnp.array([True, False, True])},
    "buffers": {"count": jnp.int32(2**24 + 1), "seen": jnp.array([True, False]), "mean": jnp.ones(2)},
}


def test_leaves_of_many_seeds_come_back():
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.zeros_like(leaf), leaf]), VARIABLES)
    flat = jax.vmap(FlatVariables.ravel)(many)
    assert {name: vector.shape for name, vector in flat.rest.items()} == {
        "bool": (3, 2),
        "float32": (3, 2),
        "int32": (3, 1),
    }
    assert flat.variables()["buffers"]["count"].tolist() == [16777217, 0, 16777217]
    chex.assert_trees_all_equal(flat.variables(), many)


def test_collections_of_one_floating_type_are_one_vector():
    assert FlatVariables.ravel({**VARIABLES, "buffers": {"mean": jnp.ones(2), "var": jnp.ones(3)}}).rest.shape == (5,)
    assert FlatVariables.ravel({key: VARIABLES[key] for key in ("params", "masks")}).rest.shape == (0,)


def test_parameters_in_half_precision_take_small_steps():
    flat = FlatVariables.ravel({**VARIABLES, "params": {"w": jnp.ones(2, jnp.bfloat16)}})
    assert flat.params.dtype == jnp.float32
    for _ in range(100):
        flat = FlatVariables(flat.params + 1e-3, flat.rest, flat.masks, flat.layout)
    assert flat.variables()["params"]["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(flat.variables()["params"]["w"].astype(jnp.float32), 1.1, rtol=4e-3)


@pytest.mark.parametrize(
    ("collection", "leaf", "error", "message"),
    [
        ("params", jnp.ones(2, int), TypeError, r"params\['x'\] must be floating-point.*'buffers'"),
        ("params", jnp.ones(2, bool), TypeError, r"params\['x'\] must be floating-point"),
        ("masks", jnp.ones(2), TypeError, r"masks\['x'\] must be boolean, true = kept, found dtype float32"),
        ("buffers", jax.random.key(0), TypeError, r"buffers\['x'\] is a random key"),
        ("buffers", np.array(["a"]), TypeError, r"buffers\['x'\] must be an array of numbers, found ndarray"),
        ("buffers", np.array([2**40]), ValueError, r"buffers\['x'\] holds 1099511627776, beyond int32"),
    ],
)
def test_what_cannot_be_kept_is_refused(collection, leaf, error, message):
    with pytest.raises(error, match=message):
        FlatVariables.ravel({**VARIABLES, collection: {"x": leaf}})


@pytest.mark.parametrize(
    ("buffers", "message"),
    [
        ({"count": jnp.float32(1)}, r"\['buffers'\]\['count'\] was int32 \[\] and is now float32 \[\]"),
        ({"mean": jnp.ones(3)}, r"\['mean'\] was float32 \[2\] and is now float32 \[3\]"),
        ({"more": jnp.ones(3)}, r"\['more'\] is not in both"),
        ({"mean": [jnp.ones(2)]}, r"\['mean'\] is not in both|\['mean'\]\[0\] is not in both"),
    ],
)
def test_updated_collections_must_be_like_those_given(buffers, message):
    flat = FlatVariables.ravel(VARIABLES)
    with pytest.raises(ValueError, match=message):
        flat.rest_of({**VARIABLES, "buffers": {**VARIABLES["buffers"], **buffers}})
