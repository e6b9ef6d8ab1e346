"""Settings of composed losses: of training, and of methods that descend a loss."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, cast

from typing_extensions import Doc

from fairjax.losses import BASES, Loss, Term
from fairjax.metrics import MEASURES, Measure
from fairjax.runs.fields import field_docs
from fairjax.runs.specification import base_name, format_term, parse_term
from fairjax.runs.structure import Structure
from fairjax.runs.values import field_types

SYNTAX = "Each is NAME[:WEIGHT][,SETTING=VALUE ...], as in mmd:5 or adversary:1,layer=last."


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The loss that the networks are trained with: a loss of the labels plus weighted terms."""

    base: str = "cross_entropy"
    """The loss of the labels."""
    terms: tuple[str, ...] = ()
    """Terms that are added to it, each NAME[:WEIGHT][,SETTING=VALUE ...], as in mmd:5 or adversary:1,layer=last.
    Several values of a setting are joined by +."""

    def __post_init__(self):
        """Validate the settings, and write terms in the one form in which they are stored."""
        object.__setattr__(self, "terms", written_terms("loss", self.base, self.terms))

    def build(self) -> Loss:
        """Return the loss."""
        return made_loss(self.base, self.terms)


def made_loss(base: str, terms: Sequence[str]) -> Loss:
    """Return the loss of a name and of texts.

    Example:
        >>> made_loss("cross_entropy", ["parity:4"]).terms[0].weight
        4.0
    """
    return Loss(base=BASES[base](), terms=tuple(map(parse_term, terms)))


def written_terms(where: str, base: str, terms: Sequence[str]) -> tuple[str, ...]:
    """Validate the texts of a loss, and return the terms in the one form in which they are stored.

    Args:
        where: the settings that contain them, for messages.
        base: name of the loss of the labels.
        terms: texts of the terms.

    Raises:
        ValueError: naming the setting and what is wrong.

    Example:
        >>> written_terms("loss", "cross_entropy", ["parity", "parity:2.50"])
        ('parity:1', 'parity:2.5')
    """
    BASES.check(f"{where}.base", base)
    try:
        return tuple(format_term(parse_term(text)) for text in terms)
    except ValueError as error:
        raise ValueError(f"{where}.terms: {error}") from error


def with_measures(loss: Loss, structure: Structure, measure: str) -> Loss:
    """Return a loss whose terms have measures for the groups and classes of the data.

    Args:
        loss: the loss.
        structure: groups and classes.
        measure: name of the measure of terms that name none.
    """
    names = {function: name for name, function in MEASURES.items()}

    def measured(term: Term) -> Term:
        changes = {
            name: structure.measure(names.get(getattr(term, name), measure))
            for name, kind in field_types(type(term)).items()
            if kind == Measure | None and (getattr(term, name) is None or getattr(term, name) in names)
        }
        return dataclasses.replace(term, **changes)

    return dataclasses.replace(loss, terms=tuple(map(measured, loss.terms)), num_groups=len(structure.groups))


def settings_of_method(name: str, kind: type) -> Any:
    """Return the settings of a method, with its defaults.

    They are the method itself, unless one of its hyperparameters is a loss, which has no flag: then the loss of the
    labels and the terms are two settings, and `build` makes the method.

    Args:
        name: the name of the method.
        kind: the class of the method.
    """
    return _settings_type(name, kind)()


@functools.cache
def _settings_type(name: str, kind: Any) -> Any:
    default = kind()
    types = field_types(kind)
    losses = [field.name for field in dataclasses.fields(kind) if types[field.name] is Loss]
    if len(losses) != 1:
        return kind
    docs = field_docs(kind)  # read from source files, which takes long
    (of_loss,) = losses
    loss: Loss = getattr(default, of_loss)
    terms = tuple(map(format_term, loss.terms))
    fields: list[Any] = [
        ("base", Annotated[str, Doc("The loss of the labels.")], base_name(loss.base)),
        ("terms", Annotated[tuple[str, ...], Doc(f"Terms that are added to it. {SYNTAX}")], terms),
    ]
    others = [field.name for field in dataclasses.fields(kind) if field.name != of_loss]
    fields += [
        (other, Annotated[types[other], Doc(docs.get(other, ""))], cast(Any, getattr(default, other)))
        for other in others
    ]

    def build(settings: Any) -> Any:
        made = made_loss(settings.base, settings.terms)
        return kind(**{of_loss: made, **{other: getattr(settings, other) for other in others}})

    def validate(settings: Any) -> None:
        object.__setattr__(settings, "terms", written_terms(name, settings.base, settings.terms))
        build(settings)

    space = {"__doc__": kind.__doc__, "__module__": __name__, "__post_init__": validate, "build": build}
    return dataclasses.make_dataclass(f"{kind.__name__}Settings", fields, namespace=space, frozen=True, kw_only=True)
