"""Keras 3 models with the JAX backend as networks, and back: functional, sequential and subclassed models.

While a model is traced, the activation of a layer with units, or its `call`, is replaced by one that also shifts and
masks the units; the model itself is unchanged.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fairjax.adapters._bringing import (
    Brought,
    Layer,
    Selection,
    TrainedInit,
    all_kept,
    check_agreement,
    check_zeroed,
    extra,
    num_rows,
    obstacles_of,
    select,
    shifted_and_masked,
)
from fairjax.adapters._final_activation import is_skipped, skip
from fairjax.adapters._functions import TappedFunctions
from fairjax.adapters._heads import Head, Output
from fairjax.adapters._keras_layers import Found, changed_layers, family_of, layers_of, obstacle_of, width_of, zeroed
from fairjax.adapters._taps import collect, tap
from fairjax.nn.network import Network
from fairjax.types import Inputs, KeyArray, Variables


def bring(model: Any, x: Inputs, *, units: Selection = None, output: Output = "logit") -> Brought:
    """Bring in a trained Keras model that runs on JAX.

    Trainable weights are `params`, nested by layer; other weights, such as running statistics and layers that are
    frozen, are the collection `frozen`. States of random generators are no variables: they follow from the key. Layers
    are named as in the model, with numbers that Keras adds to names counted within the model, so that equal models have
    equal names.

    Args:
        model: the model, which has been built.
        x: rows as an example, what the model is called with. Outputs on them are compared with the model's own; a few
            rows are enough.
        units: layers with units: names, a predicate of name and layer, or None for all `Dense`, `EinsumDense` and
            convolution layers except the last called. The unit of such a layer is its output before its own activation;
            of a convolution, it is a channel. An empty list brings a network without units.
        output: whether the model returns logits or probabilities.

    Returns:
        The network, its variables, and the way back: `give_back(variables)` is a new Keras model.

    Raises:
        ImportError: if Keras is not installed, or does not run on JAX.
        TypeError: if `model` is no Keras model.
        ValueError: if the model is not built, or if the units or the outputs do not fit.

    Example::

        brought = fairjax.adapters.keras.bring(model, x_valid[:32], output="probability")
        result = fairjax.debias(Pruning(spd), brought.network, brought.variables, split)
        brought.give_back(result.variables).save("debiased.keras")
    """
    keras = keras_on_jax()
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, found {type(model).__name__}")
    if not model.built or not model.weights:
        raise ValueError("the model has no weights: build it first, by calling it on some rows")
    n, head = num_rows(x), Head(output)
    program = _Program(model, layers_of(model))
    original = jax.jit(lambda values, x: program.outputs(values, x)[0])(program.values(model), x)
    head.check(original, n)
    variables = program.read(model)
    chosen, last = program.called(x, units)
    widths = {name: layer.width for name, layer in chosen.items()}
    variables["masks"] = all_kept(widths)
    program = dataclasses.replace(program, sites={name: layer.layer for name, layer in chosen.items()}, last=last)
    if output == "probability":
        head = Head(output, skipped=is_skipped(lambda x: program.run(variables, x)[:2], x))
    program = dataclasses.replace(program, head=head)
    features = program.features if program.has_features(variables, x) else None
    network = Network(TrainedInit("Keras"), program.apply, features, program.activations)
    check_agreement(network, variables, x, original, head)
    few = jax.tree.map(lambda leaf: np.asarray(leaf[:8]), x)

    def write(variables: Variables) -> Any:
        without = program.zeroed(variables)
        check_zeroed(network, variables, without, few)
        return program.clone(without, few)

    return Brought(network, variables, widths, program.read, write, obstacles_of(chosen))


def keras_on_jax() -> Any:
    """Import Keras.

    Raises:
        ImportError: if it is not installed, or runs on another backend.
    """
    keras = extra("keras")
    if not hasattr(keras, "StatelessScope"):
        raise ImportError(f"fairjax.adapters.keras needs Keras 3, found {keras.__version__}: pip install -U keras")
    if keras.backend.backend() != "jax":
        raise ImportError(
            f"fairjax.adapters.keras needs Keras with the backend jax, found {keras.backend.backend()}: set the "
            'environment variable KERAS_BACKEND=jax before Keras is imported, as by os.environ["KERAS_BACKEND"] = "jax"'
        )
    return keras


@dataclasses.dataclass(frozen=True, eq=False)
class _Program(TappedFunctions):
    """A Keras model as functions of variables and rows."""

    model: Any
    layers: dict[str, Any]
    """All layers inside the model, by name."""
    sites: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Layers with units."""
    last: Any = None
    """The last dense layer."""
    head: Head = dataclasses.field(default_factory=lambda: Head("logit"))

    def weights(self, model: Any) -> list[tuple[str, str, str, Any]]:
        """Return collection, layer, name and variable of each weight of a model, by position."""
        trainable, found, seen = {id(weight) for weight in model.trainable_weights}, [], set()
        for layer, part in {"": model, **layers_of(model)}.items():
            own = [weight for weight in [*part._trainable_variables, *part._non_trainable_variables]]
            for number, weight in enumerate(own):
                if id(weight) not in seen:
                    seen.add(id(weight))
                    kind = "params" if id(weight) in trainable else "frozen"
                    found.append((kind, layer or "model", f"{number} {weight.name}", weight))
        return found

    def read(self, model: Any) -> Variables:
        """Return the collections of a model."""
        if not isinstance(model, keras_on_jax().Model):
            raise TypeError(f"model must be a keras.Model, found {type(model).__name__}")
        variables: Variables = {"params": {}}
        for kind, layer, name, weight in self.weights(model):
            variables.setdefault(kind, {}).setdefault(layer, {})[name] = jnp.array(weight.value)
        return variables

    def values(self, model: Any) -> list[Array]:
        """Return the values of all weights."""
        return [weight.value for *_, weight in self.weights(model)]

    def outputs(self, values: list[Array], x: Any, key: KeyArray | None = None) -> tuple[Any, list[Array]]:
        """Apply the model with other values of its weights, and return outputs and updated values."""
        weights = [weight for *_, weight in self.weights(self.model)]
        mapping = list(zip(weights, values, strict=True))
        for number, generator in enumerate(_generators(self.model)):
            state = generator.state
            if key is not None:
                bits = jax.random.bits(jax.random.fold_in(key, number), state.shape)
                mapping.append((state, bits.astype(state.dtype)))
        with keras_on_jax().StatelessScope(state_mapping=mapping) as scope, _as_users_run():
            outputs = self.model(x, training=key is not None)
        return outputs, [scope.get_current_value(weight) for weight in weights]

    def called(self, x: Any, units: Selection) -> tuple[dict[str, Layer], Any]:
        """Record the layers that the model calls; return those with units, and the last dense layer."""
        names = {id(layer): name for name, layer in self.layers.items()}
        calls: list[Layer] = []

        def record(layer: Any, inputs: Any, h: Any) -> Any:
            if hasattr(h, "dtype") and jnp.issubdtype(h.dtype, jnp.floating) and h.ndim > 1:
                family = family_of(layer)
                width = width_of(layer, h)
                name = names[id(layer)]
                is_default = family not in (None, "BatchNormalization", "LayerNormalization", "Embedding")
                calls.append(Layer(name, layer, width, is_default, obstacle_of(layer, self.model)))
            return h

        with changed_layers(dict.fromkeys(self.layers.values(), record)):
            jax.eval_shape(lambda x: self.outputs(self.values(self.model), x)[0], x)
        chosen = select([*calls], _by_either_name(units, self.layers))
        last = next((call.layer for call in reversed(calls) if call.is_default), None)
        return chosen, last if family_of(last) == "Dense" else None

    def run(
        self,
        variables: Variables,
        x: Any,
        shifts: Any = None,
        key: KeyArray | None = None,
        *,
        tapped: bool = False,
        features: bool = False,
    ) -> tuple[Any, list[Array], dict[str, list[Array]]]:
        """Apply the network, and return outputs, values of weights, and what was collected."""
        hooks: dict[Any, Callable[[Any, Any, Any], Any]] = {
            layer: self._hook(
                name, None if shifts is None else shifts[name], variables["masks"][name], tapped, features
            )
            for name, layer in self.sites.items()
        }
        if features and self.last not in hooks:
            hooks[self.last] = _tap_input
        values = [variables[kind][layer][name] for kind, layer, name, _ in self.weights(self.model)]
        with changed_layers(hooks):
            if not tapped and not features:
                return *self.outputs(values, x, key), {}
            (outputs, updated), found = collect(lambda x: self.outputs(values, x, key), x)
            return outputs, updated, found

    def _hook(self, name: str, shift: Any, keep: Any, tapped: bool, features: bool) -> Any:
        def changed(layer: Any, inputs: Any, h: Any) -> Any:
            if features and layer is self.last:
                _tap_input(layer, inputs, h)
            found = Found.of(layer, h)
            flat = shifted_and_masked(found.flat(h), shift, keep, found.axis)
            if tapped:
                flat = tap(name, flat, keep, axis=found.axis)
            return flat.reshape(h.shape)

        return changed

    def logits(self, variables: Variables, x: Any, *args: Any, **options: Any) -> tuple[Array, Variables, Any]:
        """Apply the network, and return logits, updated variables, and what was collected."""

        def run(x: Any) -> tuple[Any, Any]:
            outputs, *rest = self.run(variables, x, *args, **options)
            return outputs, rest

        outputs, (values, found) = skip(run, x) if self.head.skipped else run(x)
        updated = {**variables}
        for (kind, layer, name, _), value in zip(self.weights(self.model), values, strict=True):
            if kind != "params":
                updated[kind] = {**updated[kind], layer: {**updated[kind][layer], name: value}}
        return self.head(outputs), updated, found

    def zeroed(self, variables: Variables) -> Variables:
        """Return variables with zeros in the weights and biases of cut units."""
        cut = {
            id(layer): np.asarray(variables["masks"][name])
            for name, layer in self.sites.items()
            if not np.all(np.asarray(variables["masks"][name]))
        }
        changed = {kind: {**tree} for kind, tree in variables.items() if kind in ("params", "frozen")}
        for kind, layer, name, weight in self.weights(self.model):
            owner = self.layers.get(layer)
            if id(owner) in cut:
                value = zeroed(owner, weight, changed[kind][layer][name], cut[id(owner)])
                changed[kind][layer] = {**changed[kind][layer], name: value}
        return {**variables, **changed}

    def clone(self, variables: Variables, x: Any) -> Any:
        """Return a new model with these variables."""
        keras = keras_on_jax()
        try:
            with _as_users_run():
                model = keras.models.clone_model(self.model)
                model(x)
        except Exception as error:
            raise ValueError(
                f"{type(self.model).__name__} cannot be cloned by Keras ({str(error).splitlines()[0]}): define its "
                "get_config() and from_config(), as Keras needs to save it"
            ) from error
        for kind, layer, name, weight in self.weights(model):
            weight.assign(variables[kind][layer][name])
        for generator, other in zip(_generators(model), _generators(self.model), strict=True):
            generator.state.assign(other.state.value)
        return model


def _tap_input(layer: Any, inputs: Any, h: Any) -> Any:
    tap("features", inputs, jnp.zeros(()))
    return h


def _by_either_name(units: Selection, layers: dict[str, Any]) -> Selection:
    """Accept also the names that Keras gave to layers, with numbers of the whole process."""
    if units is None or callable(units) or isinstance(units, str):
        return units
    kerass = {layer.name: name for name, layer in layers.items() if layer.name not in layers}
    return [kerass.get(name, name) for name in units]


def _generators(model: Any) -> list[Any]:
    """Return the random generators of a model's layers, by position."""
    found = {id(part): part for layer in [model, *layers_of(model).values()] for part in layer._seed_generators}
    return list(found.values())


@contextlib.contextmanager
def _as_users_run() -> Iterator[None]:
    """Apply Keras's own code with JAX's usual rules of promotion, whatever is set for other code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
