"""Terms and preprocessors as text: round trips over the registries, settings of runs, and messages."""

import dataclasses
import json
from typing import Any, ClassVar, Literal, get_args, get_origin

import jax.numpy as jnp
import pytest

from fairjax.cli.commands import parse_debias
from fairjax.cli.parsing import updated
from fairjax.hyperparameters import static
from fairjax.losses import TERMS, Loss, ParityPenalty, Term, term
from fairjax.methods import ComposedFineTuning
from fairjax.metrics import MEASURES, Measure
from fairjax.preprocess import PREPROCESSORS, Removal, SwapAugmentation
from fairjax.registry import Registry
from fairjax.runs import specification
from fairjax.runs.composed_losses import LossSettings, settings_of_method, with_measures
from fairjax.runs.identity import identity, training_identity
from fairjax.runs.settings import Debias
from fairjax.runs.specification import (
    format_preprocessor,
    format_term,
    parse_preprocessor,
    parse_term,
    settings_of,
)
from fairjax.runs.structure import Structure
from fairjax.runs.training import check_terms
from fairjax.types import Number


@term
class EveryType(Term):
    """A term with a setting of every type that has a text, and one of a type that has none."""

    groups: ClassVar[float] = 2
    classes: ClassVar[float] = 2
    rate: Number = 0.5
    steps: int = static(3)
    layer: str = static("last")
    flag: bool = static(False)
    how: Literal["sum", "mean"] = static("sum")
    widths: tuple[int, ...] = static((32,))
    pairs: tuple[tuple[str | int, str | int], ...] = static(())
    level: float | str = static("auto")
    rows: int | None = static(None)
    measure: Measure | None = static(None)
    array: Any = None
    num_groups: int | None = static(None)

    def value(self, params, outputs, batch):
        return jnp.zeros(())


@pytest.fixture
def every_type(monkeypatch):
    known = Registry("term", {"every": EveryType, **TERMS})
    monkeypatch.setattr(specification, "TERMS", known)
    monkeypatch.setattr("fairjax.runs.training.TERMS", known)
    return EveryType


def test_every_type_of_a_setting_has_a_text(every_type):
    text = (
        "every:2.5,rate=1e-05,steps=-1,layer=02 fc2,flag=yes,how=mean,widths=8+4,pairs=sex=Male~sex=Female+0~1,"
        "level=0.25,rows=10,measure=eod"
    )
    made = parse_term(text)
    assert made == every_type(
        weight=2.5,
        rate=1e-5,
        steps=-1,
        layer="02 fc2",
        flag=True,
        how="mean",
        widths=(8, 4),
        pairs=(("sex=Male", "sex=Female"), (0, 1)),
        level=0.25,
        rows=10,
        measure=MEASURES["eod"],
    )
    assert format_term(made) == text and parse_term(format_term(made)) == made
    assert parse_term("every:1,rows=none,level=auto,flag=no") == every_type()
    assert "array" not in settings_of(every_type) and "num_groups" not in settings_of(every_type)


def test_only_what_differs_from_the_defaults_is_written(every_type):
    assert format_term(every_type()) == "every:1"
    assert format_term(parse_term("every,how=sum,steps=3")) == "every:1"
    with pytest.raises(ValueError, match="array of the term every has no text"):
        format_term(every_type(array=jnp.ones(2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evry:1", r"there is no term named 'evry': did you mean every\? The terms are every, "),
        ("every:-1", "the weight of the term every must be a finite number, at least 0, got -1"),
        ("every:nan", "the weight of the term every must be a finite number, at least 0, got nan"),
        ("every:inf", "the weight of the term every must be a finite number, at least 0, got inf"),
        ("every:x", "the weight of the term every must be a number, as in every:5, got 'x'"),
        ("every:1,lay=last", "the term every has no setting 'lay': its settings are rate, steps, layer, flag"),
        ("every:1,array=1", "the term every has no setting 'array'"),
        ("every:1,weight=2", "the term every has no setting 'weight'"),
        ("every,steps", "the term every needs a value for steps, as in every,steps=VALUE"),
        ("every,steps=", "the term every needs a value for steps"),
        ("every,steps=1,steps=2", "the term every has two values for steps"),
        ("every,steps=1.5", "steps of the term every must be a whole number, got '1.5'"),
        ("every,rate=nan", "rate of the term every must be a finite number, got 'nan'"),
        ("every,flag=2", "flag of the term every must be yes or no, got '2'"),
        ("every,how=max", "how of the term every must be one of sum, mean, got 'max'"),
        ("every,rows=all", "rows of the term every must be a whole number or none, got 'all'"),
        ("every,widths=8+x", r"widths of the term every must be a whole number, got '8\+x'"),
        ("every,measure=spdd", "measure of the term every must be one of spd, eod"),
        ("parity,penalty=", "the term parity needs a value for penalty"),
    ],
)
def test_a_text_that_is_no_term_is_explained(every_type, text, message):
    with pytest.raises(ValueError, match=message):
        parse_term(text)


def test_a_preprocessor_has_no_weight_and_its_own_messages():
    with pytest.raises(ValueError, match="a preprocessor has no weight: write reweighing, got 'reweighing:2'"):
        parse_preprocessor("reweighing:2")
    with pytest.raises(ValueError, match="the preprocessors are removal, "):
        parse_preprocessor("nothing")
    with pytest.raises(ValueError, match="the preprocessor smote: neighbours must be at least 1"):
        parse_preprocessor("smote,neighbours=0")
    removal = parse_preprocessor("removal,columns=sex+race=Black+3")
    assert removal == Removal(columns=("sex", "race=Black", 3))
    assert format_preprocessor(removal) == "removal,columns=sex+race=Black+3"
    pairs = (("relationship=Husband", "relationship=Wife"),)
    assert parse_preprocessor(format_preprocessor(SwapAugmentation(pairs=pairs))).pairs == pairs


OTHERS = {int: 7, float: 0.25, str: "other", bool: True}


def _other(kind: Any, value: Any) -> Any:
    """Return a value of a type that differs from a given one; None if the test knows none."""
    for member in specification._members(kind):
        if get_origin(member) is Literal:
            return next(choice for choice in get_args(member) if choice != value)
        if get_origin(member) is tuple:
            inner = _other(get_args(member)[0], None)
            return None if inner is None else (inner, inner) if get_args(member)[-1] is not ... else (inner,)
        if member == Measure:
            return MEASURES["fprd"]
        if member in OTHERS:
            return (not value) if member is bool else OTHERS[member]
    return None


@pytest.mark.parametrize(
    ("kind", "parse", "write"),
    [(kind, parse_term, format_term) for kind in TERMS.values()]
    + [(kind, parse_preprocessor, format_preprocessor) for kind in PREPROCESSORS.values()],
)
def test_every_entry_of_the_registries_survives_the_round_trip(kind, parse, write):
    default = kind()
    assert parse(write(default)) == default
    changed = 0
    for name, of_setting in settings_of(kind).items():
        value = _other(of_setting, getattr(default, name))
        try:
            other = dataclasses.replace(default, **{name: value})
        except ValueError:  # a text that is no choice of the setting, for example
            continue
        assert parse(write(other)) == other and write(other) != write(default), (name, write(other))
        changed += 1
    assert changed or not settings_of(kind) or kind.__name__ in ("Resampling", "Reweighing"), "nothing was tried"


# Settings of runs.


def test_terms_are_stored_in_one_form_and_change_the_identity_of_a_run():
    plainly = Debias()
    one = updated(plainly, {"loss": {"terms": ["parity:4.0", "parity,sign=-1.0"]}})
    other = parse_debias(["--loss.terms", "parity:4", "parity:1,sign=-1"])
    assert one.loss == other.loss == LossSettings(terms=("parity:4", "parity:1,sign=-1"))
    assert identity(one) == identity(other) == json.loads(json.dumps(identity(one)))
    assert identity(one)["loss"] == {"base": "cross_entropy", "terms": ["parity:4", "parity:1,sign=-1"]}
    variants = [plainly, one, parse_debias(["--loss.base", "balanced_cross_entropy"])]
    variants += [parse_debias(["--loss.terms", "parity:5", "parity:1,sign=-1"])]
    variants += [parse_debias(["--preprocess", *words]) for words in (["reweighing"], ["reweighing", "removal"])]
    written = [json.dumps(training_identity(settings)) for settings in variants]
    assert len(set(written)) == len(variants), "networks that are trained differently belong to different folders"
    composed = parse_debias(["--composed.terms", "parity:3"])
    assert identity(composed) != identity(plainly) and training_identity(composed) == training_identity(plainly)


def test_a_run_without_terms_keeps_the_identity_of_earlier_versions():
    assert not {"loss", "preprocess", "composed"} & set(identity(Debias()))


def test_the_method_is_made_from_its_texts():
    settings = parse_debias(
        ["--composed.base", "cross_entropy", "--composed.terms", "parity:2", "--composed.epochs", "3"]
    )
    made = settings.config("composed")
    assert made == ComposedFineTuning(loss=Loss(terms=(ParityPenalty(weight=2.0),)), epochs=3, learning_rate=1e-4)
    assert Debias().config("composed") == ComposedFineTuning()
    shown = settings_of_method("composed", ComposedFineTuning)
    others = [field.name for field in dataclasses.fields(ComposedFineTuning) if field.name != "loss"]
    assert [field.name for field in dataclasses.fields(shown)] == ["base", "terms", *others]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--loss.terms", "parity:-1"], "loss.terms: the weight of the term parity must be a finite number"),
        (["--loss.base", "hinge"], "loss.base: there is no base loss named 'hinge'"),
        (["--composed.terms", "none"], "composed.terms: there is no term named 'none'"),
        (["--composed.epochs", "0"], "epochs must be at least 1, got 0"),
        (["--preprocess", "smote,neighbours=0"], "preprocess: the preprocessor smote: neighbours must be at least 1"),
        (
            ["--network", "net.py:make", "--loss.terms", "parity", "--preprocess", "reweighing"],
            "loss and preprocess would change nothing for the network of net.py:make",
        ),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(words, message, capsys):
    with pytest.raises(SystemExit):
        parse_debias(words)
    assert message in capsys.readouterr().err


def test_terms_that_do_not_support_the_data_are_named(every_type):
    settings = Debias(loss=LossSettings(terms=("every:1",)), methods=("standard",))
    check_terms(settings, Structure())
    with pytest.raises(ValueError, match="every does not support 3 groups: leave it out of --loss.terms"):
        check_terms(settings, Structure(groups=("a", "b", "c")))
    with pytest.raises(ValueError, match="every does not support 3 classes: leave it out of --loss.terms"):
        check_terms(settings, Structure(classes=("a", "b", "c")))


def test_terms_take_the_measure_of_the_run_for_its_groups():
    structure = Structure(groups=("a", "b", "c"))
    loss = with_measures(LossSettings(terms=("parity", "parity,measure=eod")).build(), structure, "spd")
    assert [entry.measure for entry in loss.terms] == [structure.measure("spd"), structure.measure("eod")]
    assert loss.num_groups == 3
    binary = with_measures(LossSettings(terms=("parity",)).build(), Structure(), "eod")
    assert binary.terms[0].measure is MEASURES["eod"]
