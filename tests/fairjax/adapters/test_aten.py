"""Every operation of the table against PyTorch's, on small random tensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")

from fairjax.adapters._aten import LACKING_RESULTS, OPERATIONS, RANDOM, Chance, lookup  # noqa: E402
from fairjax.adapters._aten.chance import RANDOM as ALWAYS_RANDOM  # noqa: E402

generator = torch.Generator().manual_seed(0)


def real(*shape):
    return torch.randn(*shape, generator=generator)


def unit(*shape):
    return torch.rand(*shape, generator=generator) * 0.8 + 0.1


def whole(high, *shape):
    return torch.randint(0, high, shape, generator=generator)


def truth(*shape):
    return torch.rand(*shape, generator=generator) > 0.5


X, Y, IMAGE = real(3, 4), real(3, 4), real(2, 6, 5, 7)
SPECIAL = torch.tensor([-2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 30.0])
INF = torch.tensor([1.0, float("inf"), float("-inf"), float("nan")])

UNARY = """neg square abs sign floor ceil trunc round frac exp exp2 expm1 sin cos tan sinh cosh tanh asinh atan erf erfc
    relu relu6 sigmoid gelu silu mish elu leaky_relu softplus hardtanh hardsigmoid hardswish hardshrink softshrink
    logical_not isnan isinf isfinite nan_to_num alias clone zeros_like ones_like"""
POSITIVE = "sqrt rsqrt reciprocal log log2 log10 log1p asin acos atanh erfinv lgamma logit"
BINARY = "add.Tensor sub.Tensor mul.Tensor maximum minimum atan2 logaddexp hypot max.other min.other rsub.Tensor"
COMPARED = "eq ne lt le gt ge"
REDUCED = "sum.dim_IntList mean.dim amax amin var.correction std.correction var_mean.correction logsumexp"

CASES = [
    *[(name, (SPECIAL,)) for name in UNARY.split() if not name.startswith("is") and name != "nan_to_num"],
    *[(name, (INF,)) for name in ("isnan", "isinf", "isfinite", "nan_to_num")],
    *[(name, (unit(3, 4),)) for name in POSITIVE.split()],
    ("acosh", (unit(3, 4) + 1,)),
    *[(name, (X, Y)) for name in BINARY.split()],
    *[(f"{name}.Tensor", (X.round(), Y.round())) for name in COMPARED.split()],
    *[(f"{name}.Scalar", (SPECIAL, 0.5)) for name in COMPARED.split()],
    *[(f"logical_{name}", (truth(3, 4), truth(3, 4))) for name in ("and", "or", "xor")],
    *[(f"bitwise_{name}.Tensor", (whole(9, 5), whole(9, 5))) for name in ("and", "or", "xor")],
    ("bitwise_not", (truth(5),)),
    ("add.Tensor", (X, Y), {"alpha": 2}),
    ("sub.Scalar", (X, 2, 3)),
    ("div.Tensor", (X, Y)),
    ("div.Tensor", (whole(9, 4), whole(9, 4) + 1)),
    ("div.Tensor_mode", (X, Y), {"rounding_mode": "floor"}),
    ("div.Tensor_mode", (X, Y), {"rounding_mode": "trunc"}),
    ("true_divide.Tensor", (X, Y)),
    ("floor_divide", (whole(9, 4), whole(9, 4) + 1)),
    ("remainder.Scalar", (SPECIAL, 2)),
    ("fmod.Scalar", (SPECIAL, 2)),
    ("pow.Tensor_Scalar", (X, 2.0)),
    ("pow.Tensor_Tensor", (unit(3), real(3))),
    ("pow.Scalar", (2.0, X)),
    ("round.decimals", (X,), {"decimals": 1}),
    ("lerp.Scalar", (X, Y, 0.3)),
    ("addcmul", (X, Y, real(3, 4)), {"value": 0.5}),
    ("addcdiv", (X, Y, unit(3, 4)), {"value": 0.5}),
    ("clamp", (SPECIAL, -1, 1)),
    ("clamp.Tensor", (X, -unit(3, 4), None)),
    ("clamp_min", (SPECIAL, -1)),
    ("clamp_max", (SPECIAL, 1)),
    ("xlogy.Tensor", (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 3.0]))),
    ("gelu", (SPECIAL,), {"approximate": "tanh"}),
    ("elu", (SPECIAL, 1.6, 1.05, 0.5)),
    ("softplus", (SPECIAL, 2.0, 10.0)),
    ("log_sigmoid_forward", (SPECIAL,)),
    ("_prelu_kernel", (X, unit(1, 4))),
    ("threshold", (SPECIAL, 0.2, 7.0)),
    ("glu", (X, 1)),
    ("where.self", (truth(3, 4), X, Y)),
    ("masked_fill.Scalar", (X, truth(3, 4), -1e9)),
    # reductions
    *[(name, (real(2, 3, 4), [1])) for name in REDUCED.split()],
    *[(name, (real(2, 3, 4), [0, 2]), {"keepdim": True}) for name in REDUCED.split() if "sigmoid" not in name],
    *[(name, (X,)) for name in ("sum", "mean", "prod", "max", "min", "argmax", "argmin")],
    *[(f"{name}.dim", (X, 1)) for name in ("max", "min")],
    *[(name, (X, 1, True)) for name in ("argmax", "argmin")],
    *[(f"{name}.dim", (truth(3, 4), 1)) for name in ("any", "all")],
    ("sum.dim_IntList", (truth(3, 4), [])),
    ("prod.dim_int", (X, 1)),
    ("var.correction", (X,), {"correction": 0}),
    *[("linalg_vector_norm", (X, ord, [1])) for ord in (2, 1, 3, 0, float("inf"), float("-inf"))],
    *[(name, (X, 1, False)) for name in ("_softmax", "_log_softmax")],
    ("_safe_softmax", (torch.tensor([[0.0, 1.0], [-float("inf")] * 2]), 1)),
    ("cumsum", (X, 1)),
    ("cumprod", (X, 0)),
    ("sort", (X, 1, True)),
    ("sort.stable", (X,), {"stable": True, "dim": 0}),
    ("argsort", (X, 1)),
    ("topk", (X, 2)),
    ("topk", (X, 2, 0, False)),
    # shapes
    ("view", (X, [2, -1])),
    ("reshape", (X, [12])),
    ("_unsafe_view", (X, [4, 3])),
    ("permute", (IMAGE, [2, 0, 3, 1])),
    ("transpose.int", (X, 0, 1)),
    ("t", (X,)),
    ("expand", (real(3, 1), [2, -1, 4])),
    ("unsqueeze", (X, -1)),
    ("squeeze", (real(1, 3, 1),)),
    ("squeeze.dim", (real(1, 3, 1), 1)),
    ("squeeze.dims", (real(1, 3, 1), [0, -1])),
    ("pixel_shuffle", (real(2, 8, 3, 3), 2)),
    ("slice.Tensor", (X, 1, 1, 9223372036854775807, 2)),
    ("slice.Tensor", (X, -1, -3)),
    ("select.int", (X, 1, -1)),
    ("narrow", (X, 1, 1, 2)),
    ("unbind.int", (X, 1)),
    ("split.Tensor", (X, 3, 1)),
    ("split_with_sizes", (X, [1, 3], 1)),
    ("chunk", (real(7, 2), 3)),
    ("unfold", (X, 1, 2, 1)),
    ("diagonal", (X, 1)),
    ("tril", (X, 1)),
    ("triu", (X,)),
    ("cat", ([X, Y, real(0)],)),
    ("stack", ([X, Y], 1)),
    ("repeat", (X, [2, 1, 3])),
    ("repeat_interleave.self_int", (X, 2, 1)),
    ("flip", (X, [0, 1])),
    ("roll", (X, [1], [1])),
    ("roll", (X, [3])),
    ("constant_pad_nd", (IMAGE, [1, -1, 0, 2], 3.0)),
    ("copy", (X, real(4))),
    ("lift_fresh_copy", (X,)),
    ("_to_copy", (X,)),
    ("contiguous", (X,)),
    ("to.dtype", (X, torch.float32)),
    *[(f"{mode}_pad1d", (X[None], [1, 2])) for mode in ("reflection", "replication")],
    *[(f"{mode}_pad2d", (IMAGE, [1, 2, 3, 0])) for mode in ("reflection", "replication")],
    *[(f"{mode}_pad3d", (IMAGE[None], [1, 2, 0, 1, 1, 1])) for mode in ("reflection", "replication")],
    # positions
    ("embedding", (X, whole(3, 2, 2))),
    ("embedding", (X, whole(3, 5), 1)),
    ("index.Tensor", (IMAGE, [None, whole(6, 3), None, whole(7, 3)])),
    ("_unsafe_index.Tensor", (X, [whole(3, 2), whole(4, 2)])),
    ("index_put", (X, [torch.tensor([0, 0])], torch.ones(2, 4), True)),
    ("_unsafe_index_put", (X, [None, torch.tensor([1, 2])], torch.ones(3, 2))),
    ("index_select", (X, 1, whole(4, 5))),
    ("index_add", (X, 0, torch.tensor([1, 1]), Y[:2]), {"alpha": 2}),
    ("gather", (X, 1, whole(4, 2, 3))),
    ("scatter.src", (X, 1, torch.tensor([[0, 1], [2, 3]]), Y)),
    ("scatter.value", (X, 1, torch.tensor([[0], [2], [1]]), 9.0)),
    ("scatter_add", (X, 0, torch.tensor([[0, 0, 0, 0], [0, 0, 1, 2]]), Y)),
    ("slice_scatter", (X, torch.ones(3, 2), 1, 1, 3)),
    ("select_scatter", (X, torch.ones(3), 1, 2)),
    ("bucketize.Tensor", (SPECIAL, torch.tensor([-1.0, 0.0, 1.0])), {"right": True}),
    # creation
    ("full", ([2, 3], 4)),
    ("full_like", (X, 2.5)),
    ("new_full", (X, [2], 2.5)),
    ("fill.Scalar", (X, 2.5)),
    *[(name, ([2, 3],)) for name in ("zeros", "ones")],
    *[(f"new_{name}", (X, [2, 3])) for name in ("zeros", "ones")],
    ("arange", (5,)),
    ("arange.start_step", (1, 9, 3)),
    ("linspace", (0, 1, 5)),
    ("eye", (3,)),
    ("scalar_tensor", (2.5,)),
    # products
    ("linear", (real(2, 3, 4), real(5, 4), real(5))),
    ("mm", (X, Y.T)),
    ("bmm", (real(2, 3, 4), real(2, 4, 5))),
    ("matmul", (real(2, 3, 4), real(4, 5))),
    ("mv", (X, real(4))),
    ("dot", (real(4), real(4))),
    ("addmm", (real(3), X, Y.T), {"alpha": 2, "beta": 0.5}),
    ("addmv", (real(3), X, real(4))),
    ("baddbmm", (real(2, 3, 5), real(2, 3, 4), real(2, 4, 5))),
    ("bilinear", (real(5, 3), real(5, 4), real(2, 3, 4), real(2))),
    ("_cdist_forward", (X, Y, 2.0, None)),
    ("_cdist_forward", (X, Y, float("inf"), None)),
    ("scaled_dot_product_attention", (real(2, 2, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 6))),
    ("scaled_dot_product_attention", (real(2, 3, 4), real(2, 5, 4), real(2, 5, 6), truth(3, 5)), {"scale": 0.3}),
    ("scaled_dot_product_attention", (real(2, 3, 4), real(2, 5, 4), real(2, 5, 6), real(3, 5))),
    ("scaled_dot_product_attention", (real(2, 4, 4), real(2, 4, 4), real(2, 4, 6), None, 0.0, True)),
    ("scaled_dot_product_attention", (real(2, 4, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 6)), {"enable_gqa": True}),
    # convolutions: few and many positions, strides, dilation, groups, transposed
    *[
        ("convolution", (IMAGE, real(8, 6, *size), real(8), stride, padding, dilation, False, [0, 0], 1))
        for size, stride, padding, dilation in [
            ((3, 3), [1, 1], [1, 1], [1, 1]),
            ((3, 2), [2, 2], [0, 1], [1, 2]),
            ((1, 1), [2, 3], [0, 0], [1, 1]),
        ]
    ],
    ("convolution", (real(2, 32, 6, 6), real(3, 32, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
    ("convolution", (IMAGE, real(4, 3, 3, 3), None, [1], [1], [1], False, [0, 0], 2)),
    ("convolution", (real(2, 3, 9), real(4, 3, 3), real(4), [2], [1], [1], False, [0], 1)),
    ("convolution", (real(1, 2, 4, 4, 4), real(3, 2, 2, 2, 2), None, [1], [0], [1], False, [0], 1)),
    ("convolution", (IMAGE, real(6, 4, 3, 2), real(4), [2, 1], [1, 0], [1, 2], True, [1, 0], 1)),
    ("convolution", (IMAGE, real(6, 2, 3, 3), real(4), [2, 2], [1, 1], [1, 1], True, [0, 0], 2)),
    # pooling
    ("max_pool2d_with_indices", (IMAGE, [2, 3], [2, 2], [1, 1])),
    ("max_pool2d_with_indices", (IMAGE, [2, 2], [2, 2], [0, 0], [2, 1], True)),
    ("max_pool1d_with_indices", (X[None], [2])),
    ("max_pool3d_with_indices", (IMAGE[None], [2, 2, 2])),
    ("avg_pool1d", (X[None], [2])),
    ("avg_pool2d", (IMAGE, [2, 3], [2, 2], [1, 1], True, True)),
    ("avg_pool2d", (IMAGE, [2, 3], [2, 2], [1, 1], False, False)),
    ("avg_pool2d", (IMAGE, [2, 2], [], [0], False, True, 3)),
    ("avg_pool3d", (IMAGE[None], [2, 2, 2])),
    ("adaptive_avg_pool1d", (X[None], [3])),
    ("_adaptive_avg_pool2d", (IMAGE, [1, 1])),
    ("_adaptive_avg_pool2d", (IMAGE, [3, 4])),
    ("_adaptive_avg_pool3d", (IMAGE[None], [2, 2, 3])),
    ("adaptive_max_pool2d", (IMAGE, [3, 4])),
    ("adaptive_max_pool3d", (IMAGE[None], [2, 2, 3])),
    ("upsample_nearest1d.vec", (X[None], [7], None)),
    ("upsample_nearest2d.vec", (IMAGE, None, [2.0, 1.5])),
    ("upsample_nearest3d.vec", (IMAGE[None], [7, 5, 9], None)),
    ("upsample_bilinear2d.vec", (IMAGE, [9, 3], False, None)),
    ("upsample_bilinear2d.vec", (IMAGE, None, True, [2.0, 2.0])),
    # normalisation
    ("_native_batch_norm_legit_no_training", (IMAGE, real(6), real(6), real(6), unit(6), 0.1, 1e-5)),
    ("_native_batch_norm_legit_functional", (IMAGE, real(6), real(6), real(6), unit(6), True, 0.3, 1e-5)),
    ("_native_batch_norm_legit_functional", (X, None, None, real(4), unit(4), True, 0.3, 1e-5)),
    ("_native_batch_norm_legit_functional", (X, None, None, real(4), unit(4), False, 0.3, 1e-5)),
    ("_native_batch_norm_legit.no_stats", (IMAGE, real(6), real(6), True, 0.1, 1e-5)),
    ("native_layer_norm", (IMAGE, [5, 7], real(5, 7), real(5, 7), 1e-5)),
    ("native_group_norm", (IMAGE, real(6), real(6), 2, 6, 35, 3, 1e-5)),
    ("_fused_rms_norm", (X, [4], real(4), 1e-5)),
]


def recurrent_cases():
    for name, kind in (("lstm.input", torch.nn.LSTM), ("gru.input", torch.nn.GRU)):
        for options in ({"bidirectional": True, "num_layers": 2}, {"bias": False, "batch_first": True}):
            yield recurrent_case(name, kind(3, 4, **options))
    yield recurrent_case("lstm.input", torch.nn.LSTM(3, 4, proj_size=2))
    yield recurrent_case("rnn_tanh.input", torch.nn.RNN(3, 4))
    yield recurrent_case("rnn_relu.input", torch.nn.RNN(3, 4, nonlinearity="relu"))


def recurrent_case(name, layer):
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    rows = 2 if layer.batch_first else 5
    states = [real(count, rows, layer.proj_size or 4), real(count, rows, 4)]
    hx = states if name == "lstm.input" else states[0]
    options = (layer.bias, layer.num_layers, 0.0, False, layer.bidirectional, layer.batch_first)
    return name, (real(2, 5, 3), hx, [weight.detach() for weight in layer._flat_weights], *options)


def to_jax(arg):
    if isinstance(arg, torch.Tensor):
        return jnp.asarray(arg.numpy().astype(np.int32) if arg.dtype == torch.int64 else arg.numpy())
    if isinstance(arg, (list, tuple)):
        return [to_jax(item) for item in arg]
    return jnp.float32 if isinstance(arg, torch.dtype) else arg


def call(name, *args, **kwargs):
    function, draws = lookup(name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return function(Chance(None), *args, **kwargs) if draws else function(*args, **kwargs)


def pytorch(name, *args, **kwargs):
    packet, _, overload = name.partition(".")
    found = getattr(torch.ops.aten, packet)
    results = getattr(found, overload or "default")(*args, **kwargs) if overload else found(*args, **kwargs)
    return list(results) if isinstance(results, (tuple, list)) else [results]


def names_of(case):
    return {case[0], case[0].partition(".")[0]}


def compiled(cases):
    """Compute the operations of all cases by few programs, which takes less time than one program per primitive."""
    results = []
    for start in range(0, len(cases), 25):
        arguments = [to_jax(args) for _, args, *_ in cases[start : start + 25]]
        leaves, structure = jax.tree.flatten(arguments)
        is_array = [isinstance(leaf, jax.Array) for leaf in leaves]

        def run(arrays, cases=cases[start : start + 25], leaves=leaves, structure=structure, is_array=is_array):
            arrays = iter(arrays)
            merged = [next(arrays) if given else leaf for leaf, given in zip(leaves, is_array, strict=True)]
            pairs = zip(cases, jax.tree.unflatten(structure, merged), strict=True)
            return [call(name, *args, **(rest[0] if rest else {})) for (name, _, *rest), args in pairs]

        results += jax.jit(run)([leaf for leaf, given in zip(leaves, is_array, strict=True) if given])
    return results


def test_all_operations_agree_with_pytorch():
    cases = [*CASES, *recurrent_cases()]
    for (name, args, *rest), found in zip(cases, compiled(cases), strict=True):
        kwargs = rest[0] if rest else {}
        expected = pytorch(name, *args, **kwargs)
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        lacking = LACKING_RESULTS.get(name, LACKING_RESULTS.get(name.partition(".")[0], ()))
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            if number in lacking or (one is None and name == "log_sigmoid_forward"):
                assert one is None, name
                continue
            message = f"{name} {kwargs}, result {number}"
            assert one.shape == tuple(other.shape), message
            np.testing.assert_allclose(one, other.numpy(), atol=2e-5, rtol=1e-5, err_msg=message)


def test_every_operation_is_tested():
    tested = set().union(*map(names_of, [*CASES, *recurrent_cases()]))
    undetermined = {"empty", "empty_like", "new_empty"}
    assert set(OPERATIONS) - tested - undetermined == set()
    assert set(RANDOM) - set(ALWAYS_RANDOM) - tested == set()


DIFFERENTIATED = """relu relu6 abs elu leaky_relu hardtanh hardsigmoid hardswish hardshrink softshrink softplus silu
    gelu mish"""


def test_derivatives_agree_where_functions_have_kinks():
    points = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0])
    cases = [(name, ()) for name in DIFFERENTIATED.split()]
    cases += [("clamp", (-1.0, 1.0)), ("threshold", (0.5, 0.0)), ("pow.Tensor_Scalar", (2.0,)), ("amax", ([0],))]
    cases += [("max.dim", (0,)), ("linalg_vector_norm", (2, [0])), ("embedding", (torch.tensor([1, 1, 0]), 1))]
    for name, args in cases:
        x = (points * 0 if name == "linalg_vector_norm" else points.round() if name == "amax" else points).clone()
        x = x[:, None] if name == "embedding" else x
        x.requires_grad_()
        expected = torch.autograd.grad(pytorch(name, x, *args)[0].sum(), x)[0]

        def summed(x, name=name, args=args):
            result = call(name, x, *to_jax(args))
            return jnp.sum(result[0] if isinstance(result, (tuple, list)) else result)

        found = jax.grad(summed)(to_jax(x.detach()))
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6, err_msg=name)


def test_dropout_drops_and_scales():
    chance = Chance(jax.random.key(0))
    chance.prepare([(0.25, (1000, 8)), (0.5, (1000, 2, 4))])
    first, second = chance.dropout(jnp.ones((1000, 8)), 0.25), chance.dropout(jnp.ones((1000, 2, 4)), 0.5)
    for kept, rate in ((first, 0.25), (second, 0.5)):
        assert set(np.unique(kept).tolist()) == {0.0, np.float32(1 / (1 - rate)).item()}
        assert abs(float(kept.mean()) - 1) < 0.05
    assert not np.array_equal(first.reshape(-1) > 0, second.reshape(-1) > 0)
    assert not chance.dropout(jnp.ones(3), 1.0).any()
    rare = chance.dropout(jnp.ones(100_000), 0.0005)
    assert 10 < (rare == 0).sum() < 200


def test_random_numbers_have_their_distribution():
    chance = Chance(jax.random.key(0))
    x = jnp.full((4000,), 0.3)
    draws = {name: RANDOM[name](chance, x) for name in ("rand_like", "randn_like", "bernoulli")}
    assert abs(float(draws["rand_like"].mean()) - 0.5) < 0.05
    assert abs(float(draws["randn_like"].std()) - 1) < 0.05
    assert abs(float(draws["bernoulli"].mean()) - 0.3) < 0.05
    assert RANDOM["rand"](chance, [2, 3]).shape == RANDOM["randn"](chance, [2, 3]).shape == (2, 3)
    assert RANDOM["native_dropout"](chance, x, 0.5, False)[0] is x
    with pytest.raises(ValueError, match="in evaluation mode"):
        RANDOM["rand_like"](Chance(None), x)
