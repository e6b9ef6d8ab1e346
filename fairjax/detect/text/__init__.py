"""Bias of text classifiers: names in templates, attribution to words, and words replaced."""

from fairjax.detect.text.embeddings import Embedded, EmbeddedApply, baseline, embed, embedding_of, sum_by_word
from fairjax.detect.text.name_concept import NameConcept, name_concept
from fairjax.detect.text.replacing import replace_words, swap_words
from fairjax.detect.text.template_test import TemplateTest, template_test

__all__ = [
    "Embedded",
    "EmbeddedApply",
    "NameConcept",
    "TemplateTest",
    "baseline",
    "embed",
    "embedding_of",
    "name_concept",
    "replace_words",
    "sum_by_word",
    "swap_words",
    "template_test",
]
