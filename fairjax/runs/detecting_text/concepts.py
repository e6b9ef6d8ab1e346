"""Whether race and gender of a name can be read from embeddings and the heads' units, and whether they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.concepts import probe, unit_activations, unit_gradients
from fairjax.detect.text import name_concept
from fairjax.runs.detecting_text.corpus import attributes_of, sentences_of
from fairjax.runs.detecting_text.subject import TextSubject
from fairjax.types import Batch


def compute(subject: TextSubject) -> dict[str, pd.DataFrame]:
    """Return probes on new names, and tests of the direction between groups, by seed, attribute and layer."""
    parts, count = {}, len(sentences_of("names").people)
    groups = attributes_of(sentences_of("names"))
    for name in ("names", "new names"):
        sentences = sentences_of(name)
        x = jnp.asarray(np.array(subject.encoder.embed(name, sentences.texts)))
        repeated = {key: np.repeat(a, x.shape[0] // len(a)) for key, (a, _) in attributes_of(sentences).items()}
        parts[name] = x, repeated
    probes, scores = [], []
    for number, seed in enumerate(subject.seeds):
        variables = jax.tree.map(lambda leaf, number=number: leaf[number], subject.heads)
        activations = unit_activations(subject.head, variables, parts["names"][0])
        gradients = unit_gradients(subject.head, variables, parts["new names"][0])
        untrained = subject.head.init(jax.random.key(seed), parts["names"][0][:2])
        for offset, attribute in enumerate(("race", "gender")):
            train, test = (Batch(x, jnp.zeros(len(x), bool), jnp.asarray(a[attribute])) for x, a in parts.values())
            found = probe(subject.head, variables, train, test, untrained=untrained)
            about = {"seed": seed, "attribute": attribute}
            rows = {"embedding": (found.input, None)} if number == 0 else {}
            rows |= {layer: (of, (found.untrained or {}).get(layer)) for layer, of in found.layers.items()}
            for layer, (own, other) in rows.items():
                row = {"balanced_accuracy": float(own.balanced_accuracy), "auc": float(own.auc)}
                row["untrained"] = np.nan if other is None else float(other.balanced_accuracy)
                probes.append({**about, "layer": layer, **row})
            a, strata = groups[attribute]
            for place, (layer, h) in enumerate(activations.items()):
                by_name = np.asarray(h, np.float64).reshape(count, -1, h.shape[1]).mean(axis=1)
                key = jax.random.fold_in(subject.key(1000 + 2 * number + offset), place)
                options = {"key": key, "strata": strata, "draws": subject.settings.draws}
                tested = name_concept(by_name, gradients[layer], a, **options)
                scores.append({**about, "layer": layer, **tested._asdict()})
    return {"name_probes": pd.DataFrame(probes), "name_tcav": pd.DataFrame(scores)}
