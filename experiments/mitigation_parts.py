"""Generated parts of the documents about terms of a loss, preprocessors and reductions: tables and sections."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.markdown import at_most, described, limit, path_of, settings_table, table
from fairjax.losses import TERMS, Data, Loss, Term
from fairjax.metrics import spd
from fairjax.nn import Mlp, from_linen
from fairjax.preprocess import PREPROCESSORS, Preprocessor
from fairjax.reductions import CONSTRAINTS
from fairjax.registry import Registry
from fairjax.training import init_terms
from fairjax.types import Batch


def mitigation_parts() -> dict[str, Callable[[], str]]:
    """Return the generated parts by name."""
    return {
        "terms": _terms,
        "term sections": functools.partial(_sections, TERMS, _about_term),
        "preprocessors": _preprocessors,
        "preprocessor sections": functools.partial(_sections, PREPROCESSORS, _about_preprocessor),
        "constraints": _constraints,
    }


def _terms() -> str:
    rows = []
    for name, kind in TERMS.items():
        learns = "yes" if _own_parameters(kind) else "no"
        cells = TERMS.label(name), kind.reference, f"`{kind.equation}`", _looks_at(kind()), learns, at_most(kind.groups)
        rows.append((f"[`{name}`](#{name})", *cells))
    return table(("term", "label", "source", "equation", "looks at", "own parameters", "groups"), rows)


def _looks_at(term: Term) -> str:
    """Return what a term is computed from, with its default settings."""
    if term.layers:
        return ", ".join(f"`{layer}`" for layer in term.layers)
    if type(term).observe is not Term.observe:
        return "inputs"
    return "parameters" if term.needs_params else "logits"


def _own_parameters(kind: type[Term]) -> bool:
    """Return whether a term has parameters of its own, with its default settings and a small network."""
    network, batch = from_linen(Mlp(widths=(2,))), Batch(jnp.ones((2, 1)), jnp.arange(2) > 0, jnp.arange(2) > 0)
    loss = Loss(terms=(kind(),)).bind(Data(batch, measure=spd))
    key = jax.random.key(0)
    state = init_terms(network, loss, key, network.init(key, batch.x), batch)
    return bool(jax.tree.leaves(state.params))


def _about_term(kind: type[Term]) -> list[str]:
    """Return what distinguishes a term from others, one string per fact."""
    group = "needed" if kind.needs_group else "not needed"
    return [
        f"Equation: `{kind.equation}`",
        f"Limits: {limit(kind.groups, 'groups')}, {limit(kind.classes, 'classes')}.",
        f"The protected attribute of the train rows is {group}.",
    ]


def _preprocessors() -> str:
    rows = []
    for name, kind in PREPROCESSORS.items():
        default = kind()
        at_train, at_test = ("yes" if needed else "no" for needed in (default.needs_group, default.needs_group_at_test))
        cells = PREPROCESSORS.label(name), kind.reference, f"`{kind.equation}`", default.changes, at_train, at_test
        rows.append((f"[`{name}`](#{name})", *cells))
    head = "preprocessor", "label", "source", "equation", "changes", "attribute in training", "attribute of new rows"
    return table(head, rows)


def _about_preprocessor(kind: type[Preprocessor]) -> list[str]:
    """Return what distinguishes a preprocessor from others, one string per fact."""
    seeds = "one program for all seeds" if kind.traceable else "one seed after another, on the host"
    return [f"Equation: `{kind.equation}`", f"Changes: {kind.changes}.", f"`prepare_many`: {seeds}."]


def _constraints() -> str:
    rows = [
        (f"`{path_of(kind)}`", CONSTRAINTS.label(name), CONSTRAINTS.summary(name)) for name, kind in CONSTRAINTS.items()
    ]
    return table(("constraint", "label", "what is equal"), rows)


def _sections(registry: Registry[type], about: Callable[[Any], list[str]]) -> str:
    """Describe each entry of a registry of dataclasses in a section: what it does, its settings and references."""
    lines = []
    for name, kind in registry.items():
        words, references = described(kind)
        facts = [f"* {fact}" for fact in about(kind)]
        head = f"{registry.label(name)} ({kind.reference}), `{path_of(kind)}`."
        lines += [f"## {name}", "", head, "", words, "", *facts, "", settings_table(kind()), *references, ""]
    return "\n".join(lines)
