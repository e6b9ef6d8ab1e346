"""The methods of the comparison by stage: what each is, and where it needs the protected attribute."""

from typing import Any, NamedTuple

from experiments.second_paper.mitigate.settings import STUDIED
from experiments.second_paper.mitigate.subject import Subject
from fairjax.losses import TERMS, Residual
from fairjax.methods import METHODS
from fairjax.preprocess import PREPROCESSORS, column_indices
from fairjax.runs.postprocessors import POSTPROCESSORS
from fairjax.runs.specification import parse_preprocessor, parse_term

REDUCTIONS = ("grid_search", "exponentiated_gradient")
"""Methods that train with other labels and weights, in place of a term of the loss."""

RESIDUAL = "residual"
"""The term of the residual decomposition, which needs a network of its own and is in no registry."""

NOTHING = "nothing"
"""The row of the networks that the methods start from, or are compared with."""


class Entry(NamedTuple):
    """A method with its settings: one row of a table."""

    stage: str
    """One of `STAGES`, or "nothing"."""
    label: str
    preprocess: tuple[str, ...] = ()
    """Preprocessors, for `fairjax.runs.specification`. PROXIES stands for the proxies of the data set, and PAIRS for
    its pairs of columns."""
    terms: tuple[str, ...] = ()
    """Terms of the loss, for `fairjax.runs.specification`; MEASURE stands for the measure, ATTRIBUTE and PROXIES for
    the numbers of columns."""
    path: tuple[float, ...] = ()
    """Weights of the terms, each a factor of the weights in `terms`. One of them is selected for each split on valid
    rows."""
    method: str = ""
    """The method of `METHODS`, the postprocessor, or the reduction."""
    options: tuple[tuple[str, Any], ...] = ()
    """Settings of the method that differ from its defaults."""
    batch_size: int | None = None
    """Rows per mini-batch of training, unless those of all rows of the table."""
    epochs: float = 1.0
    """Epochs of training, as a multiple of those of the data set."""
    of_measure: bool = False
    """Whether there is one result per measure."""
    at_training: bool = True
    """Whether the protected attribute is needed to mitigate, on train or valid rows."""
    at_test: bool = False
    """Whether the method itself needs the protected attribute of new rows."""
    own_threshold: bool = False
    """Whether the method decides by thresholds of its own."""


def _pre(label: str, *preprocess: str) -> Entry:
    kinds = [PREPROCESSORS[text.partition(",")[0]] for text in preprocess]
    needed = any(kind.needs_group for kind in kinds)
    at_test = any(kind().needs_group_at_test for kind in kinds)
    return Entry("pre", label, preprocess, at_training=needed, at_test=at_test)


def _in(label: str, *terms: str, path: tuple[float, ...], **others: Any) -> Entry:
    names = [text.partition(",")[0].partition(":")[0] for text in terms]
    needed = any(name == RESIDUAL or TERMS[name].needs_group for name in names)
    return Entry("in", label, terms=terms, path=path, at_training=needed, **others)


def _intra(name: str, label: str = "", terms: tuple[str, ...] = (), **options: Any) -> Entry:
    return Entry(
        "intra", label or METHODS.label(name), terms=terms, method=name, options=tuple(options.items()), of_measure=True
    )


def _pre_entries() -> dict[str, Entry]:
    return {
        "removal": _pre("Attribute removed", "removal"),
        "removal_proxies": _pre("Attribute and proxies removed", "removal,columns=PROXIES"),
        "replacement_proxies": _pre("Attribute and proxies drawn", "replacement,columns=PROXIES,how=marginal"),
        "replacement_mean": _pre("Attribute and proxies at their means", "replacement,columns=PROXIES"),
        "cross_group_replacement": _pre(
            "Attribute and proxies of another group", "cross_group_replacement,columns=PROXIES"
        ),
        "reweighing": _pre("Reweighing", "reweighing"),
        "resampling": _pre("Resampling", "resampling"),
        "swap_augmentation": _pre("Swap augmentation", "swap_augmentation"),
        "swap_pairs": _pre("Swap augmentation with pairs", "swap_augmentation,pairs=PAIRS"),
        "oversampling": _pre("Equal cells, oversampled", "balancing"),
        "undersampling": _pre("Equal cells, undersampled", "balancing,to=smallest"),
        "quantile_repair": _pre("Quantile repair", "quantile_repair"),
        "correlation_removal": _pre("Correlation removal", "correlation_removal"),
        "smote": _pre("SMOTE in the groups", "smote"),
        "gaussian_cells": _pre("Gaussian rows in the groups", "gaussian_cells"),
    }


def _in_entries() -> dict[str, Entry]:
    entries = {
        "parity": _in("|measure|", "parity,measure=MEASURE", path=(0.1, 0.3, 1.0, 3.0), of_measure=True),
        "parity_odds": _in("|equalised odds|", "parity,measure=equalized_odds", path=(0.1, 0.3, 1.0, 3.0)),
        "prejudice": _in("Prejudice remover", "prejudice", path=(1.0, 5.0, 20.0)),
        "mmd": _in("MMD on the last layer", "mmd", path=(1.0, 5.0, 20.0)),
        "mmd_opportunity": _in("MMD, opportunity", "mmd,notion=opportunity", path=(1.0, 5.0, 20.0)),
        "hsic": _in("HSIC on the last layer", "hsic", path=(10.0, 50.0, 200.0)),
        "wasserstein": _in("Wasserstein, scores", "wasserstein", path=(0.3, 1.0, 3.0)),
        "group_robust": _in("Group robust", "group_robust", path=(0.3, 1.0, 3.0)),
        "attribution": _in("Attribution, attribute", "attribution,columns=ATTRIBUTE", path=(1.0, 10.0, 100.0)),
        "attribution_proxies": _in("Attribution, and proxies", "attribution,columns=PROXIES", path=(1.0, 10.0, 100.0)),
        "attribution_times_input": _in(
            "Gradient times input, and proxies",
            "attribution,columns=PROXIES,kind=gradient_times_input,norm=absolute",
            path=(0.1, 0.3, 1.0),
        ),
        "auxiliary": _in("Multi-task, group", "auxiliary", path=(0.3, 1.0)),
        "adversary": _in("Adversary on the last layer", "adversary", path=(0.3, 1.0, 3.0)),
        "adversary_odds": _in("Adversary, equalised odds", "adversary,notion=odds", path=(0.3, 1.0, 3.0)),
        "adversary_projected": _in("Adversary, projected", "adversary,how=projected", path=(0.3, 1.0)),
        "laftr": _in("LAFTR", "laftr", path=(0.1, 0.3, 1.0)),
        "mmd_reconstruction": _in("MMD and reconstruction", "mmd", "reconstruction:0.02", path=(1.0, 5.0, 20.0)),
        "residual": _in("Residual decomposition", RESIDUAL, path=(5.0, 20.0, 100.0)),
    }
    reductions = {
        "grid_search": Entry("in", "Reduction, grid", method="grid_search", of_measure=True),
        "exponentiated_gradient": Entry(
            "in", "Reduction, randomised", method="exponentiated_gradient", of_measure=True, own_threshold=True
        ),
        "exponentiated_gradient_odds": Entry(
            "in", "Reduction, randomised, equalised odds", method="exponentiated_gradient",
            options=(("measure", "equalized_odds"),), own_threshold=True,
        ),
    }  # fmt: skip
    parity, odds = "parity,measure=MEASURE", "parity,measure=equalized_odds"
    removed = ("removal",)
    both = {
        "reweighing_parity": _in(
            "Reweighing and |measure|", parity, path=(0.3, 1.0), of_measure=True, preprocess=("reweighing",)
        ),
        "removal_parity": _in(
            "Attribute removed and |measure|", parity, path=(0.3, 0.6, 0.9, 1.2), of_measure=True, preprocess=removed
        ),
        "removal_odds": _in(
            "Attribute removed and |equalised odds|", odds, path=(0.3, 0.5, 0.7, 1.0), preprocess=removed
        ),
        "removal_wasserstein": _in(
            "Attribute removed and Wasserstein, large batches", "wasserstein", "weight_decay:0.001",
            path=(0.7, 1.0, 1.3, 1.5, 1.7), preprocess=removed, batch_size=1024, epochs=2.0,
        ),
    }  # fmt: skip
    return entries | reductions | both


def _intra_entries() -> dict[str, Entry]:
    by_score = {"selectivity": "selectivity", "probe": "a probe", "concept": "the group's concept"}
    left_out = ("standard", "composed")  # the row NOTHING, and a method that needs terms
    return (
        {name: _intra(name) for name in METHODS if name not in left_out}
        | {f"pruning_{score}": _intra("pruning", f"Units off by {by}", score=score) for score, by in by_score.items()}
        | {"composed": _intra("composed", "Composed fine-tuning with MMD", ("mmd:5",))}
    )


def _post_entries() -> dict[str, Entry]:
    left_out = ("reject_option_paper", "equalized_odds_half")  # other readings of entries that are there
    own = ("group_thresholds", "reject_option", "reject_option_either")
    own += tuple(name for name in POSTPROCESSORS if name.startswith("calibrated"))
    return {
        name: Entry(
            "post",
            POSTPROCESSORS.label(name),
            method=name,
            of_measure=name in ("group_thresholds", "reject_option", "reject_option_either"),
            at_test=True,
            own_threshold=name in own,
        )
        for name in POSTPROCESSORS
        if name not in left_out
    }


ENTRIES: dict[str, Entry] = {
    NOTHING: Entry(NOTHING, "Nothing", at_training=False),
    **_pre_entries(),
    **_in_entries(),
    **_intra_entries(),
    **_post_entries(),
}
"""The rows by name, in the order of tables."""


def entries_for(dataset: str) -> dict[str, Entry]:
    """Return the rows of a data set by name: all but those that need pairs of columns, if it has none."""
    pairs = STUDIED[dataset].pairs
    return {name: entry for name, entry in ENTRIES.items() if pairs or "PAIRS" not in "".join(entry.preprocess)}


def preprocessors_of(entry: Entry, dataset: str, protected: str, proxies: tuple[str, ...]) -> list[Any]:
    """Return the preprocessors of a row for a data set."""
    words = {"PROXIES": "+".join((protected, *proxies)), "PAIRS": STUDIED[dataset].pairs}
    return [parse_preprocessor(_filled(text, words)) for text in entry.preprocess]


def terms_of(entry: Entry, measure: str, subject: Subject) -> tuple[Any, ...]:
    """Return the terms of a row for a measure and a data set, with the weights that their texts have."""
    attribute = column_indices(subject.dataset, (subject.dataset.protected,))
    both = column_indices(subject.dataset, (subject.dataset.protected, *subject.proxies))
    words = {"MEASURE": measure, "ATTRIBUTE": "+".join(map(str, attribute)), "PROXIES": "+".join(map(str, both))}
    return tuple(
        Residual(reconstruction=0.01, linear=1.0) if text == RESIDUAL else parse_term(_filled(text, words))
        for text in entry.terms
    )


def _filled(text: str, words: dict[str, str]) -> str:
    """Return a text in which words that stand for something of the data set are replaced by it."""
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    return text
