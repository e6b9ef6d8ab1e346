"""Whether race and gender of a name can be read from embeddings and the heads' units, and whether they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fairjax.detect.concepts import probe, tcav
from fairjax.runs.detecting_text.corpus import attributes_of, sentences_of
from fairjax.runs.detecting_text.subject import TextSubject
from fairjax.types import Batch


def compute(subject: TextSubject) -> dict[str, pd.DataFrame]:
    """Return probes on new names, and TCAV of the names of each group, one row per seed, attribute and layer."""
    parts = {}
    for name in ("names", "new names"):
        sentences = sentences_of(name)
        x = jnp.asarray(np.array(subject.encoder.embed(name, sentences.texts)))
        repeated = {key: np.repeat(a, x.shape[0] // len(a)) for key, (a, _) in attributes_of(sentences).items()}
        parts[name] = x, repeated
    probes, scores = [], []
    for number, seed in enumerate(subject.seeds):
        variables = jax.tree.map(lambda leaf, number=number: leaf[number], subject.heads)
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
            concept = {attribute: ~np.asarray(train.a)}
            key = subject.key(1000 + 2 * number + offset)
            tested = tcav(subject.head, variables, train.x, concept, test.x, key=key)
            for layer, of_concepts in tested.items():
                for values in of_concepts.values():
                    row = {name: np.asarray(value).item() for name, value in values._asdict().items()}
                    scores.append({**about, "layer": layer, **row})
    return {"name_probes": pd.DataFrame(probes), "name_tcav": pd.DataFrame(scores)}
