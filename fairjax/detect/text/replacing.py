"""Texts with words replaced or swapped, to see how much a classifier's scores depend on them."""

import re
from collections.abc import Mapping, Sequence


def replace_words(texts: Sequence[str], replacements: Mapping[str, str]) -> tuple[str, ...]:
    """Replace whole words, in one pass, so that no replacement is replaced again.

    Words are matched regardless of case. A replacement in lower case takes the case of the word: `SHE` becomes `HE`
    and `She` becomes `He`. A replacement with capitals, such as a name or `[MASK]`, is inserted as it is.

    Args:
        texts: the texts.
        replacements: words or phrases and what replaces them; where several match, the longest is replaced.

    Returns:
        The new texts.

    Raises:
        ValueError: if there are no words, one is empty, or two differ only in case.

    Example:
        >>> replace_words(["She met Anne."], {"she": "he", "anne": "[MASK]"})
        ('He met [MASK].',)
    """
    table = {word.casefold(): new for word, new in replacements.items()}
    if not replacements or "" in table or any(not word.strip() for word in table):
        raise ValueError(f"replacements must name words, found {dict(replacements)!r}")
    if len(table) != len(replacements):
        raise ValueError("replacements name a word twice, in different case: words are found in any case, name it once")
    words = sorted(table, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
    return tuple(pattern.sub(lambda match: _in_case(match[0], table[match[0].casefold()]), text) for text in texts)


def swap_words(texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Swap the two words of every pair, such as `he` and `she`, as `replace_words` replaces words.

    Args:
        texts: the texts.
        pairs: pairs of words; no word may be in two pairs.

    Returns:
        The new texts.

    Raises:
        ValueError: if a word is in two pairs, or there are no pairs.

    Example:
        >>> swap_words(["She and he."], [("she", "he")])
        ('He and she.',)
    """
    words = [word.casefold() for pair in pairs for word in pair]
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise ValueError(f"the word {twice!r} is in two pairs, so what replaces it is not known: leave out one of them")
    return replace_words(texts, {word: other for one, two in pairs for word, other in ((one, two), (two, one))})


def _in_case(word: str, new: str) -> str:
    """Give a replacement in lower case the case of the word that it replaces."""
    if new != new.lower():
        return new
    if word.isupper() and len(word) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if word[:1].isupper() else new
