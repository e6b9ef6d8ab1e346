"""The encoder all-MiniLM-L6-v2 with a head for classification, as a PyTorch module without dropout.

The names of its parameters are those of the pretrained file, so that its state dictionary can be read from there.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Embeddings(nn.Module):
    """Sum of the embeddings of words, positions and the first segment, normalised."""

    def __init__(self, config: dict[str, Any]):
        """Make the embeddings that the model's configuration describes."""
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embed tokens (n, length)."""
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(input_ids) + positions + self.token_type_embeddings.weight[0])


class Attention(nn.Module):
    """Multi-head attention with its output layer and a residual connection."""

    def __init__(self, config: dict[str, Any]):
        """Make the attention of one layer."""
        super().__init__()
        width = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = Residual(width, width, config)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        """Attend; `bias` (n, 1, 1, length) is 0 for tokens and very negative for padding."""
        n, length, width = h.shape
        query, key, value = (
            self.self[name](h).view(n, length, self.heads, width // self.heads).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        weights = torch.softmax(query @ key.transpose(2, 3) * (width // self.heads) ** -0.5 + bias, dim=-1)
        return self.output((weights @ value).transpose(1, 2).reshape(n, length, width), h)


class Residual(nn.Module):
    """Linear layer, residual connection and normalisation."""

    def __init__(self, inputs: int, width: int, config: dict[str, Any]):
        """Make a layer from `inputs` to `width` units."""
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, h: Tensor, before: Tensor) -> Tensor:
        """Apply the layer to h and add `before`."""
        return self.LayerNorm(self.dense(h) + before)


class Layer(nn.Module):
    """Attention and two linear layers with a GELU between them."""

    def __init__(self, config: dict[str, Any]):
        """Make one layer."""
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config["hidden_size"], config["intermediate_size"])})
        self.output = Residual(config["intermediate_size"], config["hidden_size"], config)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        """Apply the layer."""
        h = self.attention(h, bias)
        return self.output(F.gelu(self.intermediate["dense"](h)), h)


class SentenceClassifier(nn.Module):
    """Encoder, mean over tokens, normalisation to length 1, and a head with one hidden layer (none if its width is 0).

    The module returns logits (n,) of token arrays `input_ids` and `attention_mask`, both (n, length).
    """

    def __init__(self, folder: Path, hidden: int = 64):
        """Read the pretrained encoder from a folder; the head is initialised at random."""
        super().__init__()
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        width = config["hidden_size"]
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))}
        )
        self.hidden = nn.Linear(width, hidden) if hidden else None
        self.out = nn.Linear(hidden or width, 1)
        missing, unexpected = self.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=False)
        if any(not name.startswith(("hidden.", "out.")) for name in missing):
            raise ValueError(f"the file of {folder} lacks parameters of the encoder, such as {missing[0]}")
        if any(not name.startswith(("pooler.", "embeddings.position_ids")) for name in unexpected):
            raise ValueError(f"the file of {folder} holds other parameters, such as {unexpected[-1]}")
        self.eval()

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return sentence embeddings (n, width) of length 1."""
        kept = attention_mask.to(self.out.weight.dtype)
        bias = ((1.0 - kept) * -1e9)[:, None, None, :]
        h = self.embeddings(input_ids)
        for layer in self.encoder["layer"]:
            h = layer(h, bias)
        mean = (h * kept[:, :, None]).sum(dim=1) / kept.sum(dim=1, keepdim=True)
        return F.normalize(mean, dim=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits (n,)."""
        h = self.embed(input_ids, attention_mask)
        h = h if self.hidden is None else torch.relu(self.hidden(h))
        return self.out(h)[:, 0]


def no_keys(name: str, layer: Any) -> bool:
    """Tell whether a layer's units are to be measured: linear layers other than keys and the last.

    A shift of a key that all tokens share adds the same number to all scores of a query, which cancels in the softmax,
    so that the influence of keys is 0 to rounding.
    """
    return isinstance(layer, nn.Linear) and not name.endswith(".key") and name != "out"
