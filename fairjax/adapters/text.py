"""Texts as token arrays: the tokeniser of a pretrained sentence encoder, with what the extra `text` installs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from fairjax.adapters._bringing import extra
from fairjax.adapters._pretrained_files import folder_of, minilm_folder, read_config
from fairjax.adapters._sentence_encoder import sentence_encoder

__all__ = ["Tokens", "Words", "minilm_folder", "sentence_encoder", "tokenise", "words_of"]

Tokens = dict[str, Int32[np.ndarray, "n length"]]
"""Arrays `input_ids` and `attention_mask` (1 = token, 0 = padding) with one row per text."""


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
        TypeError: if a text is not a string.
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
    folder = folder_of(folder)
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


class Words(NamedTuple):
    """Which word each token of some texts belongs to."""

    numbers: Int32[np.ndarray, "n length"]
    """Number of the token's word in its text, 0, 1, ...; -1 at special tokens and padding."""
    words: tuple[tuple[str, ...], ...]
    """The words of each text, as written there; a punctuation mark is a word."""


def words_of(texts: Sequence[str], length: int | None = None, *, folder: str | Path | None = None) -> Words:
    """Return which word each token of `tokenise(texts, length, truncate=True)` belongs to.

    Args:
        texts: the texts.
        length: as for `tokenise`.
        folder: as for `tokenise`.

    Returns:
        Numbers of words by token, and the words. A word that was cut off has no token.

    Raises:
        ImportError, FileNotFoundError, ValueError, TypeError: as `tokenise` does.
    """
    tokens = tokenise(texts, length, folder=folder, truncate=True)["input_ids"]
    numbers = np.full(tokens.shape, -1, np.int32)
    words = []
    tokenizer = _tokenizer(folder_of(folder))
    tokenizer.enable_truncation(tokens.shape[1])
    for row, (text, encoding) in enumerate(zip(texts, tokenizer.encode_batch(list(texts)), strict=True)):
        places: dict[int, tuple[int, int]] = {}
        for token, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is None:
                continue
            numbers[row, token] = word
            places[word] = (places.get(word, (start, end))[0], end)
        words.append(tuple(text[start:end] for start, end in (places[word] for word in sorted(places))))
    return Words(numbers, tuple(words))


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
    return read_config(folder).get("max_position_embeddings", 2**31 - 1)


def _padding(tokenizer: Any) -> dict[str, Any]:
    """Return the padding token of a tokeniser; padding is masked, so any token will do where none is known."""
    for token in ("[PAD]", "<pad>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return {"pad_id": number, "pad_token": token}
    return {}
