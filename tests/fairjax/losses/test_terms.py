import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.losses import TERMS, Data, Loss, Term
from fairjax.metrics import make_measure, spd
from fairjax.nn import Mlp, from_linen
from fairjax.training import init_terms, outputs_of
from fairjax.types import Batch, WeightedBatch

N, D = 24, 4  # as many features as units, as the residual decomposition needs
NETWORK = from_linen(Mlp(widths=(4,)))
COMPUTED_IN_ONE_GROUP = ("group_robust", "reconstruction")
COMPARING = [name for name, kind in TERMS.items() if kind.needs_group and name not in COMPUTED_IN_ONE_GROUP]
"""Terms that compare groups: 0 if there is only one."""


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(N, D)), jnp.float32)
    return Batch(x, jnp.asarray(rng.random(N) < 0.5), jnp.asarray(rng.random(N) < 0.6))


@pytest.fixture(scope="module")
def variables(batch):
    return NETWORK.init(jax.random.key(1), batch.x)


@pytest.fixture(scope="module")
def prepared(batch, variables):
    """The loss of each term alone, bound to the data, and the initial parameters of the term, by name."""

    def prepare(kind):
        loss = Loss(terms=(kind(weight=0.5),)).bind(Data(batch, measure=spd))
        return loss, init_terms(NETWORK, loss, jax.random.key(2), variables, batch)

    return {name: prepare(kind) for name, kind in TERMS.items()}


def value(loss, params, variables, batch):
    outputs = outputs_of(NETWORK, loss, {**variables, "params": params}, batch)[0]
    return outputs, lambda state: loss.terms[0].value(state.params[0], outputs.seen_by(0), batch)


def of_params(params, loss, state, variables, batch):
    return value(loss, params, variables, batch)[1](state)


TRACES = []
"""The kind of term of each trace of `weighted_with_gradient`; a cache of programs may be emptied in a long session."""


def weighted_with_gradient(loss, state, variables, batch):
    """Return weight * value of the only term of a loss, and its gradient by the network's parameters."""

    TRACES.append(type(loss.terms[0]))

    def objective(params):
        return loss.terms[0].weight * of_params(params, loss, state, variables, batch)

    return jax.value_and_grad(objective)(variables["params"])


JITTED = jax.jit(weighted_with_gradient)
MAPPED = jax.jit(jax.vmap(weighted_with_gradient, (0, 0, 0, None)))


def largest(tree):
    return max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(tree))


def is_finite(tree):
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", TERMS)
def test_every_term_keeps_the_protocol(name, prepared, variables, batch):
    kind, (loss, state) = TERMS[name], prepared[name]
    assert issubclass(kind, Term) and kind.label and kind.reference and kind.equation and kind.__doc__
    assert all(field.kw_only for field in dataclasses.fields(kind))
    entry = loss.terms[0]
    assert type(entry) is kind and 0.5 in jax.tree.leaves(entry) and hash(jax.tree.structure(entry)) is not None
    assert isinstance(entry.layers, tuple) and entry.own_steps >= 0 and kind.combination in ("add", "project")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.weight = 1.0
    result, gradient = JITTED(loss, state, variables, batch)
    assert result.shape == () and result.dtype == jnp.float32 and is_finite(gradient)
    assert result != 0 and largest(gradient) > 0


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("present", [False, True])
def test_a_term_is_zero_without_gradient_if_a_group_is_absent(name, present, prepared, variables, batch):
    loss, state = prepared[name]
    result, gradient = JITTED(loss, state, variables, batch._replace(a=jnp.full(N, present)))
    assert result == 0 and largest(gradient) == 0


@pytest.mark.parametrize("name", [name for name, kind in TERMS.items() if kind.needs_group])
def test_rows_of_weight_zero_are_ignored(name, prepared, variables, batch):
    loss, state = prepared[name]
    result, gradient = JITTED(loss, state, variables, WeightedBatch(*batch, jnp.zeros(N)))
    assert result == 0 and largest(gradient) == 0
    weights = jnp.asarray(np.arange(N) % 4, jnp.float32)
    kept = jax.tree.map(lambda column: column[weights > 0], WeightedBatch(*batch, weights))
    whole, few = JITTED(loss, state, variables, WeightedBatch(*batch, weights)), JITTED(loss, state, variables, kept)
    np.testing.assert_allclose(whole[0], few[0], rtol=2e-5, atol=1e-7)
    if name not in ("hsic", "residual"):  # whose n is the number of rows, and weights are relative
        repeated = jax.tree.map(lambda column: np.repeat(column, np.arange(N) % 4, axis=0), batch)
        repeated = jax.tree.map(jnp.asarray, repeated)
        result, gradient = JITTED(loss, state, variables, repeated)
        np.testing.assert_allclose(whole[0], result, rtol=2e-5, atol=1e-7)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), whole[1], gradient)


@pytest.mark.parametrize("name", TERMS)
def test_eager_compiled_and_mapped_terms_agree_without_another_compilation(name, prepared, variables, batch):
    loss, state = prepared[name]
    single = JITTED(loss, state, variables, batch)
    eager = loss.terms[0].weight * of_params(variables["params"], loss, state, variables, batch)
    np.testing.assert_allclose(eager, single[0], rtol=1e-4, atol=1e-7)
    others = jax.tree.map(lambda leaf: leaf * 1.1 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, variables)
    seeds = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables, others)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    path = jax.tree.map(lambda number: jnp.array([number, 2 * number]), loss)
    before = len(TRACES)
    values, gradients = MAPPED(path, states, seeds, batch)
    MAPPED(jax.tree.map(lambda number: number + 1, path), states, seeds, batch)
    assert TRACES[before:] == [TERMS[name]]
    np.testing.assert_allclose(values[0], single[0], rtol=1e-4, atol=1e-7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-6), gradients, single[1])


@pytest.mark.parametrize("name", TERMS)
def test_terms_compute_in_double_precision_if_the_user_does(name, prepared, variables, batch):
    loss, state = prepared[name]
    single = JITTED(loss, state, variables, batch)[0]
    with jax.enable_x64(True):

        def wide(leaf):
            return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        args = jax.tree.map(wide, (state, variables, batch))
        result = loss.terms[0].weight * of_params(args[1]["params"], loss, *args)
        assert result.dtype == jnp.float64
    np.testing.assert_allclose(result, single, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_terms_of_half_precision_are_finite(name, dtype, prepared, variables, batch):
    loss, state = prepared[name]
    outputs, _ = value(loss, variables["params"], variables, batch)
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), outputs)
    result = loss.terms[0].value(state.params[0], half.seen_by(0), batch)
    exact = loss.terms[0].value(state.params[0], outputs.seen_by(0), batch)
    np.testing.assert_allclose(np.float32(result), exact, rtol=0.2, atol=5e-3)


@pytest.mark.parametrize("name", COMPARING)
def test_invalid_groups_are_no_parity(name, prepared, variables, batch):
    loss, state = prepared[name]
    outputs, of_state = value(loss, variables["params"], variables, batch)
    codes = jnp.where(jnp.arange(N) == 3, 7, batch.a.astype(jnp.int32))
    result = jax.jit(lambda a: loss.terms[0].value(state.params[0], outputs.seen_by(0), batch._replace(a=a)))(codes)
    assert jnp.isnan(result)


@pytest.mark.parametrize("name", [name for name, kind in TERMS.items() if kind.needs_group and kind.groups > 2])
def test_terms_take_codes_of_three_groups_and_ignore_an_absent_one(name, variables, batch):
    kind = TERMS[name]
    measure = make_measure("spd", 3)
    loss = Loss(terms=(kind(weight=0.5),)).bind(Data(batch, num_groups=3, measure=measure))
    state = init_terms(NETWORK, loss, jax.random.key(2), variables, batch._replace(a=jnp.zeros(N, jnp.int32)))
    codes = jnp.asarray(np.arange(N) % 3)
    result, gradient = JITTED(loss, state, variables, batch._replace(a=codes))
    assert result != 0 and is_finite(gradient) and largest(gradient) > 0
    result, gradient = JITTED(loss, state, variables, batch._replace(a=codes % 2))
    assert result != 0 and is_finite(gradient)
    if name in COMPARING:
        result, gradient = JITTED(loss, state, variables, batch._replace(a=0 * codes))
        assert result == 0 and largest(gradient) == 0


def test_registry_refuses_what_is_no_term():
    class Undecorated(Term):
        def value(self, params, outputs, batch):
            return jnp.zeros(())

    with pytest.raises(TypeError, match="must be a subclass of fairjax.losses.Term"):
        TERMS.register("undecorated", dict)
    with pytest.raises(TypeError, match="is not decorated"):
        TERMS.register("undecorated", Undecorated)
    with pytest.raises(ValueError, match="there is a term named 'mmd' already"):
        TERMS.register("mmd", TERMS["mmd"])
    assert "undecorated" not in TERMS
