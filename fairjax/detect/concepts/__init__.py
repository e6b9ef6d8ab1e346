"""Concepts in the layers of a network: whether they are encoded, whether they are used, and by which units.

`probe` tells how well a group can be read from each layer; `concept_vectors` finds the direction of a concept;
`unit_gradients` and `tcav` tell whether the logit depends on it; `concept_addition` adds it; `selectivity` measures
single units. All of them need only the network's unit shifts and activations, so they work for networks of any library.
Layers are named as the network's masks, see `layer_names`.
"""

from fairjax.detect.concepts.addition import ConceptAddition, concept_addition
from fairjax.detect.concepts.cav import ConceptVector, concept_vector, concept_vectors
from fairjax.detect.concepts.concept_tables import probe_table, tcav_table
from fairjax.detect.concepts.logistic import LogisticRegression, logistic_regression
from fairjax.detect.concepts.probe import ProbeQuality, Probes, probe
from fairjax.detect.concepts.scores import TcavScores, tcav_scores
from fairjax.detect.concepts.selectivity import Selectivity, selectivity
from fairjax.detect.concepts.significance import welch_test
from fairjax.detect.concepts.sites import layer_names, unit_activations
from fairjax.detect.concepts.tcav import Tcav, tcav
from fairjax.detect.concepts.unit_gradients import unit_gradients
from fairjax.detect.concepts.unit_scores import UnitScore, unit_scores

__all__ = [
    "ConceptAddition",
    "ConceptVector",
    "LogisticRegression",
    "ProbeQuality",
    "Probes",
    "Selectivity",
    "Tcav",
    "TcavScores",
    "UnitScore",
    "concept_addition",
    "concept_vector",
    "concept_vectors",
    "layer_names",
    "logistic_regression",
    "probe",
    "probe_table",
    "selectivity",
    "tcav",
    "tcav_scores",
    "tcav_table",
    "unit_activations",
    "unit_gradients",
    "unit_scores",
    "welch_test",
]
