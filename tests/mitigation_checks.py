"""What the blocks of the documents about mitigation must have done, by the headings of the blocks."""

import jax
import numpy as np
import pytest

from fairjax import spd
from fairjax.losses import mmd


def _bias(network, variables, part):
    decisions = (network.apply(variables, part.x)[0] > 0).astype(float)
    return float(spd(decisions, part.y, part.a))


def _seed(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


def preprocessed(names):
    """Weighted labels do not depend on the group, the attribute is constant, and the networks are trained."""
    splits = names["prepared"].splits
    for seed in range(2):
        rows, axes = jax.tree.map(np.asarray, splits.train[seed]), names["prepared"].axes
        table = {name: np.asarray(getattr(splits, name)) for name in ("x", "y", "a", "weights")}
        own = {name: table[name][seed] if getattr(axes, name) == 0 else table[name] for name in table}
        y, a, weights = (own[name][rows] for name in ("y", "a", "weights"))
        rates = [np.average(y[a == group], weights=weights[a == group]) for group in (0, 1)]
        assert rates[0] == pytest.approx(rates[1], abs=1e-5) and abs(y[a == 0].mean() - y[a == 1].mean()) > 0.1
        assert np.ptp(own["x"][rows][:, 10]) == 0
    assert np.isfinite(names["fitted"].loss).all() and names["fitted"].epochs.tolist() == [5, 5]


def path_of_weights(names):
    """The larger the weight, the smaller the bias, for both seeds."""
    split, network = names["splits"], names["network"]
    biases = []
    for number in range(6):
        own = split._replace(**{name: getattr(split, name)[number // 3] for name in ("train", "test", "mean", "scale")})
        biases.append(abs(_bias(network, _seed(names["fitted"].variables, number), own.part("train"))))
    for first in (0, 3):
        assert biases[first] > biases[first + 2] + 0.05, biases


def own_step(names):
    discrepancies = names["discrepancies"]
    assert discrepancies[-1] < 0.2 * max(discrepancies)
    assert mmd(np.tanh(names["x"] @ names["params"]["w"]), names["a"]) < 0.02


def reduced(names):
    result = names["result"]
    assert result.error.shape == (2, 15) and names["decisions"].shape == (2, 600)
    y, a = np.asarray(names["y"]), np.asarray(names["a"])
    gaps = [abs(decisions[a].mean() - decisions[~a].mean()) for decisions in np.asarray(names["decisions"])]
    assert max(gaps) < 0.6 * abs(y[a].mean() - y[~a].mean())


def fine_tuned(names):
    result, valid = names["result"], names["result"].trace.valid
    assert result.satisfied and abs(valid.bias[result.selected]) < 0.05 < 0.2 < abs(valid.bias[0])


def served(names):
    """The minority gains by weights and by the source, compared with training on the target alone."""
    import fairjax

    network, target, (x, y, a) = names["network"], names["target"], (names[name] for name in "xya")
    alone = fairjax.fit(network, target, key=jax.random.key(6), training=names["training"])
    decisions = network.apply(alone.variables, (x - target.mean) / target.scale)[0] > 0
    before, after = ((found == y)[~a].mean() for found in (decisions, names["decisions"]))
    assert after > before + 0.02


def postprocessed(names):
    """Decisions have the shares or the rates that were aimed at, on rows whose decisions are not equal before."""
    a = np.asarray(names["a"])[500:]
    before = np.asarray(names["scores"])[500:] > 0.5
    gap = before[a].mean() - before[~a].mean()
    for name in ("by_threshold", "by_corpus"):
        found = np.asarray(names[name])
        assert abs(found[a].mean() - found[~a].mean()) < 0.5 * abs(gap), name
    share = names["by_corpus"][~a].sum() / names["by_corpus"].sum()
    assert share == pytest.approx(float(names["parity"][0]), abs=0.01)
    assert names["by_mixture"].shape == (500,) and bool(names["calibrated"].equalises)


def added_term(names):
    split, network, fitted = names["split"], names["network"], names["fitted"]
    part = split.part("train")
    logits, a = np.asarray(network.apply(fitted.variables, part.x)[0]), np.asarray(part.a)
    term = names["MeanGap"]()
    outputs = names["fairjax"].losses.Outputs(logits, {})
    assert term.value((), outputs, part) == pytest.approx((logits[a].mean() - logits[~a].mean()) ** 2, abs=1e-5)
    alone = part._replace(a=np.ones_like(a))
    slopes = jax.grad(lambda logits: term.value((), outputs._replace(logits=logits), alone))(logits)
    assert term.value((), outputs, alone) == 0 and not np.asarray(slopes).any()
    assert abs(_bias(network, fitted.variables, part)) < 0.15


def added_preprocessor(names):
    x, clipped = (np.asarray(names[name].part("test").x) for name in ("split", "prepared"))
    assert clipped.shape == x.shape and np.abs(x).max() > 2.5 > np.abs(clipped * 0).max()
    raw = np.asarray(names["prepared"].x)
    train = np.asarray(names["split"].x)[np.asarray(names["split"].train)]
    limit = train.mean(axis=0) + 1.5 * train.std(axis=0)
    assert (raw <= limit + 1e-4).all() and raw.max() == pytest.approx(limit.max(), abs=1e-3)


CHECKS = {
    "Before training: preprocessing": preprocessed,
    "In training: composed losses": path_of_weights,
    "A term in a training step of your own": own_step,
    "Reductions": reduced,
    "After training: fine-tuning": fine_tuned,
    "Transfer, and groups that are served badly": served,
    "After training: postprocessing": postprocessed,
    "A term of a loss": added_term,
    "A preprocessor": added_preprocessor,
}
