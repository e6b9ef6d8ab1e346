import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.losses import Data, Hsic, Mmd, Outputs, hsic, mmd
from fairjax.losses.kernels import gaussian_form
from fairjax.types import Batch

N = 30
RNG = np.random.default_rng(0)
H = (RNG.normal(size=(N, 3)) + 5).astype(np.float32)
A, GROUPS, Y = np.arange(N) % 3 == 0, np.arange(N) % 3, RNG.random(N) < 0.5
WEIGHTS = RNG.integers(0, 4, N)
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def compiled(function, groups, **options):
    """The function of activations with everything else constant, since single operations take longer to compile."""
    return jax.jit(lambda h: function(h, groups, **options))


def kernel(h, widths=WIDTHS):
    """The mean of Gaussian kernels, by loops over pairs of rows."""
    n, h = len(h), h.astype(float)
    distances = np.array([[sum((h[i] - h[j]) ** 2) for j in range(n)] for i in range(n)])
    return sum(np.exp(-distances / (width * distances.mean())) for width in widths) / len(widths), distances.mean()


def mean_kernel(k, rows, others):
    return np.mean([k[i, j] for i in np.flatnonzero(rows) for j in np.flatnonzero(others)])


def discrepancy(k, rows, others):
    return mean_kernel(k, rows, rows) + mean_kernel(k, others, others) - 2 * mean_kernel(k, rows, others)


def of_all_pairs(k, groups, within=None):
    within = np.ones(len(groups), bool) if within is None else within
    names = np.unique(groups)
    return sum(discrepancy(k, within & (groups == i), within & (groups == j)) for i in names for j in names if i < j)


@pytest.mark.parametrize("groups", [A, GROUPS], ids=["two groups", "three groups"])
def test_mmd_is_the_double_loop(groups):
    k, _ = kernel(H)
    np.testing.assert_allclose(compiled(mmd, groups)(H), of_all_pairs(k, groups), rtol=1e-5)
    to_all = sum(discrepancy(k, groups == g, np.ones(N, bool)) for g in np.unique(groups))
    np.testing.assert_allclose(compiled(mmd, groups, against="all")(H), to_all, rtol=1e-5)
    of_classes = [of_all_pairs(k, groups, within=c) for c in (Y, ~Y)]
    np.testing.assert_allclose(compiled(mmd, groups, y=Y)(H), np.mean(of_classes), rtol=1e-5)
    other, _ = kernel(H, (0.3, 1.0))
    np.testing.assert_allclose(mmd(H, groups, widths=(0.3, 1.0)), of_all_pairs(other, groups), rtol=1e-5)


@pytest.mark.parametrize("groups", [A, GROUPS], ids=["two groups", "three groups"])
@pytest.mark.parametrize("linear", [0.0, 0.5])
def test_hsic_is_the_trace(groups, linear):
    k, distance = kernel(H)
    k = k + linear * H.astype(float) @ H.astype(float).T / distance
    same, centring = groups[:, None] == groups[None, :], np.eye(N) - 1 / N
    expected = np.trace(k @ centring @ same @ centring) / (N - 1) ** 2
    np.testing.assert_allclose(compiled(hsic, groups, linear=linear)(H), expected, rtol=1e-4)


def test_hsic_within_classes_is_the_mean_of_their_traces():
    k, _ = kernel(H)
    expected = []
    for rows in (Y, ~Y):
        n = rows.sum()
        same, centring = A[rows][:, None] == A[rows][None, :], np.eye(n) - 1 / n
        expected.append(np.trace(k[np.ix_(rows, rows)] @ centring @ same @ centring) / (n - 1) ** 2)
    np.testing.assert_allclose(compiled(hsic, A, y=Y)(H), np.mean(expected), rtol=1e-4)


def test_one_distance_tests_the_other():
    n0, n1 = (~A).sum(), A.sum()
    of_hsic = compiled(hsic, A)(H) * (N - 1) ** 2 / N**2
    np.testing.assert_allclose(of_hsic, 2 * (n0 * n1 / N**2) ** 2 * compiled(mmd, A)(H), rtol=1e-5)


def test_memberships_are_groups_and_only_ratios_of_weights_matter():
    members = np.eye(3, dtype=np.float32)[GROUPS]
    np.testing.assert_allclose(compiled(mmd, members)(H), compiled(mmd, GROUPS)(H), rtol=1e-6)
    np.testing.assert_allclose(compiled(hsic, members)(H), compiled(hsic, GROUPS)(H), rtol=1e-6)
    np.testing.assert_allclose(
        compiled(hsic, GROUPS, weights=WEIGHTS)(H), compiled(hsic, GROUPS, weights=10.0 * WEIGHTS)(H), rtol=1e-5
    )
    kept = WEIGHTS > 0
    np.testing.assert_allclose(
        compiled(hsic, GROUPS, weights=1.0 * kept)(H), compiled(hsic, GROUPS[kept])(H[kept]), rtol=1e-5
    )


@pytest.mark.parametrize(("distance", "groups"), [(mmd, A), (hsic, GROUPS[1:])], ids=["mmd", "hsic of 29 rows"])
def test_gradients_are_finite_differences_with_constant_widths(distance, groups):
    with jax.enable_x64(True):
        h, step = jnp.asarray(H[-len(groups) :], jnp.float64), 1e-6
        direction = jnp.asarray(RNG.normal(size=h.shape))
        slope = jnp.sum(jax.jit(jax.grad(lambda h: distance(h, groups)))(h) * direction)
        mean = [jnp.mean((moved[:, None] - moved[None]) ** 2) for moved in (h, h + step * direction)]
        scale = float(mean[1] / mean[0])
        widths = tuple(width / scale for width in WIDTHS)
        moved = compiled(distance, groups, widths=widths)(h + step * direction) - compiled(distance, groups)(h)
        np.testing.assert_allclose(slope, moved / step, rtol=1e-4)


@pytest.mark.parametrize("n", [1, 6, 7])
def test_the_form_and_its_derivatives_are_those_of_the_whole_kernel(n):
    widths = (0.3, 1.0, 2.0)
    h, h_dot = (jnp.asarray(array) for array in RNG.normal(size=(2, n, 3)).astype(np.float32))
    c, c_dot = (jnp.asarray(array) for array in RNG.normal(size=(2, n, 2)).astype(np.float32))

    def whole(h, c):
        distances = jnp.sum(jnp.square(h[:, None] - h[None]), axis=2)
        k = sum(jnp.exp(-distances / width) for width in widths) / 3
        return jnp.sum(c * (k @ c))

    expected = jax.jit(lambda *args: jax.jvp(whole, args[:2], args[2:]))(h, c, h_dot, c_dot)
    form = jax.jit(lambda *args: jax.jvp(lambda h, c: gaussian_form(widths, h, c), args[:2], args[2:]))
    np.testing.assert_allclose(form(h, c, h_dot, c_dot), expected, rtol=1e-4, atol=1e-5)


def test_rows_that_are_equal_have_no_distance_and_a_finite_gradient():
    for distance in (mmd, hsic):
        value, gradient = jax.jit(jax.value_and_grad(compiled(distance, np.arange(6) % 2 == 0)))(jnp.ones((6, 2)))
        assert abs(value) < 1e-6 and jnp.all(gradient == 0)


def test_descent_makes_groups_equal():
    h = jnp.asarray(H)
    step = jax.jit(lambda h: h - 3.0 * jax.grad(lambda h: mmd(h, A))(h))
    before = compiled(mmd, A)(h)
    for _ in range(100):
        h = step(h)
    assert compiled(mmd, A)(h) < before / 10


@pytest.mark.parametrize("kind", [Mmd, Hsic])
def test_terms_compare_what_their_notion_says(kind):
    batch = Batch(jnp.asarray(H), jnp.asarray(Y), jnp.asarray(A))
    outputs = Outputs(jnp.zeros(N), {"last": jnp.asarray(H)})
    function = {Mmd: mmd, Hsic: hsic}[kind]
    value = jax.jit(lambda term, outputs: term.bind(Data(batch)).value((), outputs, batch))
    of = {notion: value(kind(notion=notion), outputs) for notion in ("parity", "odds", "opportunity")}
    np.testing.assert_allclose(of["parity"], compiled(function, A)(H), rtol=1e-6)
    np.testing.assert_allclose(of["odds"], compiled(function, A, y=Y)(H), rtol=1e-6)
    np.testing.assert_allclose(of["opportunity"], compiled(function, A[Y])(H[Y]), rtol=1e-4)
    only = outputs._replace(layers={"output": jnp.asarray(H[:, :1])})
    np.testing.assert_allclose(value(kind(layer="output"), only), compiled(function, A)(H[:, 0]), rtol=1e-5)


def test_arguments_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="widths must be a tuple of positive numbers"):
        mmd(H, A, widths=())
    with pytest.raises(ValueError, match="widths must be a tuple of positive numbers"):
        Hsic(widths=(1.0, 0.0))
    with pytest.raises(ValueError, match="against must be one of pairs, all"):
        mmd(H, A, against="none")
    with pytest.raises(Exception, match="notion"):  # of types or of values, since tests check the types of arguments
        Mmd(notion="equal")
    with pytest.raises(ValueError, match="linear must be a finite number, at least 0"):
        Hsic(linear=-1.0)
    with pytest.raises(ValueError, match="a must have one group per row"):
        mmd(H, A[:5])
    with pytest.raises(ValueError, match="y must have one label per row"):
        mmd(H, A, y=Y[:5])
    with pytest.raises(ValueError, match="h must have shape"):
        hsic(H[:, :, None], A)
