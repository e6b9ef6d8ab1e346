"""Adversaries as terms: parameters of their own, ways of training, and what they see."""

from typing import ClassVar, Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from fairjax.hyperparameters import check_at_least, check_choice, check_positive, static
from fairjax.losses.base import OUTPUT, Data, Outputs, Term, term
from fairjax.losses.group_prediction import label_indicators
from fairjax.losses.grouping import NOTIONS, Notion
from fairjax.losses.predictor import Form, init_predictor, init_score_predictor, predict, predict_from_scores
from fairjax.types import KeyArray, Number, Rows

WAYS = ("alternating", "reversal", "projected")
"""Ways to train network and adversary against each other."""


@term
class AdversarialTerm(Term):
    """An adversary that predicts the group from a layer, whatever its loss; see `Adversary` and `Laftr`."""

    validated: ClassVar[bool] = False

    layer: str = static("last")
    """The layer that the adversary sees: "last", "output", or the name of a layer with units."""
    how: Literal["alternating", "reversal", "projected"] = static("alternating")
    """Way of training: `steps` steps of the adversary before each step of the network; one step at the same time
    (gradient reversal), which is cheaper, but leaves a weaker adversary; or one step at the same time, with the
    network's gradient projected as by Zhang et al."""
    form: Form = static("hidden")
    """The adversary: one hidden layer of ReLU units, or a logistic regression, which is on the scaled score (as by
    Zhang et al.) if the layer is "output"."""
    width: int = static(32)
    """Hidden units of the adversary."""
    steps: int = static(5)
    """Steps of the adversary per step of the network, if they alternate."""
    own_rate: Number = 1e-2
    """Adam's step size for the adversary."""
    notion: Notion = static("parity")
    """What the adversary sees: the layer (parity), the layer and the label (odds), or the layer of positives only
    (opportunity)."""
    ramp: int | None = static(None)
    """Number of steps of the network during which the weight rises from 0, as 2 / (1 + exp(-10 p)) - 1 at the share p
    of the steps; the whole weight from the start if omitted. With large weights, training may diverge without it."""
    num_groups: int | None = static(None)
    """Number of groups; that of the data if omitted."""
    num_classes: int | None = static(None)
    """Number of classes; that of the data if omitted."""

    def __post_init__(self):
        """Validate the hyperparameters."""
        check_choice("how", self.how, WAYS)
        check_choice("form", self.form, ("hidden", "logistic"))
        check_choice("notion", self.notion, NOTIONS)
        check_at_least("width", self.width, 1)
        check_at_least("steps", self.steps, 1)
        check_positive("own_rate", self.own_rate)
        if self.ramp is not None:
            check_at_least("ramp", self.ramp, 1)
            if self.how == "projected":
                raise ValueError("ramp cannot be combined with how='projected': choose alternating or reversal")

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer that the adversary sees."""
        return (self.layer,)

    @property
    def own_steps(self) -> int:
        """Number of steps before that of the network; 0: one step beside it."""
        return self.steps if self.how == "alternating" else 0

    @property
    def projects(self) -> bool:
        """Whether the network's gradient is projected."""
        return self.how == "projected"

    def bind(self, data: Data) -> Term:
        """Take the numbers of groups and classes of the data, unless they are given.

        Raises:
            ValueError: if the notion is opportunity and there are more than two classes.
        """
        if self.notion == "opportunity" and data.num_classes > 2:
            raise ValueError(
                f"notion='opportunity' is for two classes, of which one is favourable, found {data.num_classes}: "
                "choose parity or odds"
            )
        return super().bind(data)

    def init(self, key: KeyArray, outputs: Outputs, batch: Rows) -> PyTree[Array]:
        """Return the initial parameters of the adversary and, if the weight rises, the number of steps done."""
        h = outputs.layers[self.layer]
        groups = self.num_groups or (batch.a.shape[1] if batch.a.ndim == 2 else 2)
        count, labels = 1 if groups == 2 else groups, self.num_classes or 2
        if self._on_scores:
            predictor = init_score_predictor(h.shape[1], count, h.dtype, labels=labels)
        else:
            labels = labels if self.notion == "odds" else 0
            predictor = init_predictor(key, self.form, h.shape[1], count, self.width, h.dtype, labels=labels)
        return {"predictor": predictor} | ({} if self.ramp is None else {"step": jnp.zeros((), jnp.float32)})

    def value(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the term that the network descends; 0 if there are not two groups to tell apart."""
        value = self._gain(self.own_loss(params, outputs, batch))
        if self.ramp is None:
            return value
        share = jnp.minimum(params["step"] / self.ramp, 1.0).astype(value.dtype)
        return (2.0 / (1.0 + jnp.exp(-10.0 * share)) - 1.0) * value

    def own_loss(self, params: PyTree[Array], outputs: Outputs, batch: Rows) -> Float[Array, ""]:
        """Compute the loss that the adversary descends."""
        return self._loss(self.predictions(params, outputs, batch), batch)

    def predictions(
        self, params: PyTree[Array], outputs: Outputs, batch: Rows
    ) -> Float[Array, " m"] | Float[Array, "m g"]:
        """Compute the adversary's logits of the group, one per row for two groups, one per row and group for more."""
        h = outputs.layers[self.layer]
        labels = label_indicators(batch, self.num_classes or 2, h.dtype) if self.notion == "odds" else ()
        logits = (predict_from_scores if self._on_scores else predict)(params["predictor"], h, labels)
        return logits[:, 0] if logits.shape[1:] == (1,) else logits

    def update(
        self, params: PyTree[Array], optimiser: optax.OptState, outputs: Outputs, batch: Rows
    ) -> tuple[PyTree[Array], optax.OptState]:
        """Take the adversary's steps, and count one step of the network."""
        params, optimiser = super().update(params, optimiser, outputs, batch)
        return params if self.ramp is None else {**params, "step": params["step"] + 1.0}, optimiser

    @property
    def _on_scores(self) -> bool:
        return self.layer == OUTPUT and self.form == "logistic"

    def _loss(self, logits: Float[Array, " m"] | Float[Array, "m g"], batch: Rows) -> Float[Array, ""]:
        """Return the adversary's loss, given its logits of the group."""
        raise NotImplementedError(f"{type(self).__name__} must have a function _loss")

    def _gain(self, loss: Float[Array, ""]) -> Float[Array, ""]:
        """Return what the network descends, given the adversary's loss."""
        raise NotImplementedError(f"{type(self).__name__} must have a function _gain")
