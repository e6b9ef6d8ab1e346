"""A pretrained sentence encoder as a JAX network, read from the file of its weights."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.adapters._bringing import extra
from fairjax.adapters._pretrained_files import folder_of, read_config
from fairjax.nn.network import Network, from_linen
from fairjax.nn.sentence_encoder import SentenceEncoder
from fairjax.types import Variables


def sentence_encoder(folder: str | Path | None = None) -> tuple[Network, Variables]:
    """Read a pretrained BERT-like sentence encoder as a network whose outputs are embeddings (n, width).

    Args:
        folder: folder that holds `config.json` and `model.safetensors`; that of `minilm_folder()` if omitted.

    Returns:
        The network, to be put under a head by `fairjax.nn.with_head`, and its variables.

    Raises:
        ImportError: naming what to install.
        FileNotFoundError: if a file is missing.
        ValueError: if the files describe another kind of network.
    """
    folder = folder_of(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: pass the folder of a pretrained model")
    config = read_config(folder)
    expected = {"model_type": "bert", "hidden_act": "gelu"}
    other = [f"{name} {config.get(name)!r}" for name, value in expected.items() if config.get(name) != value]
    if config.get("position_embedding_type", "absolute") != "absolute":
        other.append(f"position_embedding_type {config['position_embedding_type']!r}")
    if other:
        raise ValueError(
            f"{folder} holds a model of {', '.join(other)}, expected a BERT model with GELU and absolute positions: "
            "bring it from its framework, as by fairjax.adapters.torch.bring"
        )
    module = SentenceEncoder(
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        width=config["hidden_size"],
        inner=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )
    params = _encoder_params(extra("safetensors.numpy", "text").load_file(str(folder / "model.safetensors")), module)
    masks = {f"layer_{number:02d}": {"units": {"keep": np.ones(module.width, bool)}} for number in range(module.layers)}
    return from_linen(module), jax.tree.map(jnp.asarray, {"params": params, "masks": masks})


_DENSE = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "output_norm": "output.LayerNorm"}


def _encoder_params(file: dict[str, np.ndarray], module: SentenceEncoder) -> dict[str, Any]:
    """Return the parameters of a `SentenceEncoder` from those of a BERT model's file."""

    def read(name: str) -> np.ndarray:
        if name not in file:
            raise ValueError(f"model.safetensors holds no {name}, which a BERT model has: pass another folder")
        return file[name].astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": read(f"{name}.weight"), "bias": read(f"{name}.bias")}

    params: dict[str, Any] = {
        "words": read("embeddings.word_embeddings.weight"),
        # all tokens are of the first segment, so its embedding is part of those of the positions
        "positions": read("embeddings.position_embeddings.weight")
        + read("embeddings.token_type_embeddings.weight")[:1],
        "norm": norm("embeddings.LayerNorm"),
    }
    for number in range(module.layers):
        prefix = f"encoder.layer.{number}."
        layer: dict[str, Any] = {own: norm(prefix + name) for own, name in _NORMS.items()}
        for own, name in _DENSE.items():
            layer[own] = {"kernel": read(f"{prefix}{name}.weight").T, "bias": read(f"{prefix}{name}.bias")}
        params[f"layer_{number:02d}"] = layer
    return params
