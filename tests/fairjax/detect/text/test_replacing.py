"""Words replaced and swapped."""

import pytest

from fairjax.detect.text import replace_words, swap_words


def test_whole_words_are_replaced_in_any_case_and_only_once():
    table = {"she": "he", "he": "she", "my sister": "my brother", "ann": "[MASK]"}
    texts = ["She met the SHE-wolf.", "My sister, Ann and Anna's Ann's.", "(he) HE he_"]
    expected = ("He met the HE-wolf.", "My brother, [MASK] and Anna's [MASK]'s.", "(she) SHE he_")
    assert replace_words(texts, table) == expected


def test_the_longest_phrase_is_taken():
    assert replace_words(["new york is new"], {"new": "old", "new york": "boston"}) == ("boston is old",)


def test_swapping_twice_gives_the_texts_again():
    pairs = [("she", "he"), ("woman", "man")]
    texts = ("She saw a man. He saw a woman!", "WOMAN")
    assert swap_words(texts, pairs) == ("He saw a woman. She saw a man!", "MAN")
    assert swap_words(swap_words(texts, pairs), pairs) == texts


def test_tables_that_mean_nothing_are_refused():
    for table, message in (({}, "must name words"), ({" ": "x"}, "must name words"), ({"A": "b", "a": "c"}, "twice")):
        with pytest.raises(ValueError, match=message):
            replace_words(["a"], table)
    with pytest.raises(ValueError, match="'he' is in two pairs"):
        swap_words(["a"], [("she", "he"), ("He", "they")])
    with pytest.raises(ValueError, match="must name words"):
        swap_words(["a"], [])
