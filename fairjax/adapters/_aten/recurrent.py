"""Recurrent layers: LSTM, GRU and plain, of any number of layers, in one or both directions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.adapters._aten.chance import Chance
from fairjax.adapters._aten.products import linear

State = tuple[Any, ...]
Cell = Callable[[Any, State, dict[str, Any]], State]
"""A function (input of all gates, state, weights) -> state; its first entry is the output."""


def _lstm_cell(inputs: Any, state: State, weights: dict[str, Any]) -> State:
    h, c = state
    gates = inputs + linear(h, weights["hidden"], weights["hidden_bias"])
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if weights["projection"] is None else linear(h, weights["projection"])), c


def _gru_cell(inputs: Any, state: State, weights: dict[str, Any]) -> State:
    (h,) = state
    reset_in, update_in, new_in = jnp.split(inputs, 3, axis=-1)
    reset, update, new = jnp.split(linear(h, weights["hidden"], weights["hidden_bias"]), 3, axis=-1)
    new = jnp.tanh(new_in + jax.nn.sigmoid(reset_in + reset) * new)
    update = jax.nn.sigmoid(update_in + update)
    return ((1 - update) * new + update * h,)


def _plain_cell(activation: Callable[[Any], Any]) -> Cell:
    return lambda inputs, state, weights: (
        activation(inputs + linear(state[0], weights["hidden"], weights["hidden_bias"])),
    )


def _one_direction(cell: Cell, x: Any, state: State, weights: dict[str, Any], reverse: bool) -> tuple[Any, State]:
    """Run a cell along axis 0; return the outputs of all steps and the last state."""

    def step(state: State, inputs: Any) -> tuple[State, Any]:
        state = cell(inputs, state, weights)
        return state, state[0]

    inputs = linear(x, weights["input"], weights["input_bias"])
    state, outputs = jax.lax.scan(step, state, inputs, reverse=reverse)
    return outputs, state


def _weights(params: Sequence[Any], has_biases: bool, projected: bool) -> list[dict[str, Any]]:
    """Group the list of parameters by layer and direction."""
    size = 2 + 2 * has_biases + projected
    groups = []
    for i in range(0, len(params), size):
        part = list(params[i : i + size])
        biases = part[2:4] if has_biases else [None, None]
        projection = part[-1] if projected else None
        names = ("input", "hidden", "input_bias", "hidden_bias", "projection")
        groups.append(dict(zip(names, [*part[:2], *biases, projection], strict=True)))
    return groups


def _recurrent(cell: Cell, num_states: int) -> Callable[..., Any]:
    def layers(
        chance: Chance,
        x: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, ...]:
        states = list(hx) if num_states == 2 else [hx]
        directions = 2 if bidirectional else 1
        projected = len(params) == num_layers * directions * (3 + 2 * has_biases)
        groups = _weights(params, has_biases, projected)
        h = jnp.swapaxes(x, 0, 1) if batch_first else x
        last: list[State] = []
        for layer in range(num_layers):
            outputs = []
            for direction in range(directions):
                i = layer * directions + direction
                start = tuple(state[i] for state in states)
                out, state = _one_direction(cell, h, start, groups[i], bool(direction))
                outputs.append(out)
                last.append(state)
            h = jnp.concatenate(outputs, axis=-1)
            if train and layer < num_layers - 1:
                h = chance.dropout(h, dropout)
        finals = [jnp.stack([state[j] for state in last]) for j in range(num_states)]
        return (jnp.swapaxes(h, 0, 1) if batch_first else h, *finals)

    return layers


RANDOM: dict[str, Callable[..., Any]] = {
    "lstm.input": _recurrent(_lstm_cell, 2),
    "gru.input": _recurrent(_gru_cell, 1),
    "rnn_tanh.input": _recurrent(_plain_cell(jnp.tanh), 1),
    "rnn_relu.input": _recurrent(_plain_cell(jax.nn.relu), 1),
}
"""Operations that may use chance, which is their first argument."""
