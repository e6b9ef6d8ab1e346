"""Training with each term of the composed loss beside training without terms."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import fairjax
from experiments.benchmarks import clock, fairjax_contender, tables
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.view import WITHOUT_TERMS
from fairjax.losses import TERMS, Attribution, Loss, ParityPenalty, TemplateGap, Term, Wasserstein
from fairjax.metrics import MEASURES
from fairjax.nn import Mlp, from_linen
from fairjax.runs.devices import use_cores
from fairjax.training import Training

SENTENCES = (8, 8)
"""People and cells of the template sentences."""


def terms_to_time(features: int) -> dict[str, Term]:
    """Return each registered term, and others whose costs differ, by name.

    Args:
        features: the number of features of the table, and of the embeddings of template sentences.
    """
    people = jnp.arange(SENTENCES[0]) % 2 == 0
    sentences = jax.random.normal(jax.random.key(0), (*SENTENCES, features))
    made = {"parity": ParityPenalty(measure=MEASURES["spd"]), "attribution": Attribution(columns=(0,))}
    sliced = Wasserstein(layer="last")
    return {name: made[name] if name in made else kind() for name, kind in TERMS.items()} | {
        f"wasserstein of {sliced.directions} directions": sliced,
        f"template gap of {math.prod(SENTENCES)} sentences": TemplateGap(sentences=sentences, a=people),
    }


def all_terms(settings: Bench, shape: str) -> dict[str, Any]:
    """Time whole trainings of all networks with one term each, in seconds per network and step.

    The repetitions of all terms alternate, so that a slow moment of the machine concerns all of them.

    Args:
        settings: the number of repetitions and epochs, the units and the mini-batch.
        shape: the table, compas or adult.

    Returns:
        A measure per term, and one without terms.
    """
    use_cores()
    case = fairjax_contender.make_case(tables.read(settings, shape), settings.term_widths)
    network = from_linen(Mlp(widths=settings.term_widths, dropout=0.0))
    epochs, batch_size = settings.term_epochs, settings.term_batch_size
    training = Training(epochs=epochs, check_every=epochs, batch_size=batch_size, keep="last")
    steps = epochs * case.batches(batch_size)

    def trainer(loss: Loss) -> Callable[[], Any]:
        def train() -> Any:
            fitted = fairjax.fit_many(
                network, case.splits, keys=case.keys, training=training, loss=loss, mesh=case.machine.mesh
            )
            return jax.block_until_ready(fitted.variables)

        return train

    terms = terms_to_time(case.splits.x.shape[-1])
    losses = {WITHOUT_TERMS: Loss()} | {name: Loss(terms=(term,), num_groups=2) for name, term in terms.items()}
    trainers = {name: trainer(loss) for name, loss in losses.items()}
    first = {name: clock.repeated(train, 1, 1)[0] for name, train in trainers.items()}
    measures: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(settings.scaling_repetitions):
        for name, train in trainers.items():
            measures[name] += clock.repeated(train, 1, case.count * steps)
    return {"measures": measures, "facts": {"device": case.device, "seeds": case.count, "first_call": first}}
