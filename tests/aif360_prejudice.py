"""AIF360's class of the prejudice remover, an oracle, which AIF360 itself runs in a process of its own."""

import functools
import importlib.util
from pathlib import Path


@functools.cache
def regression_of_aif360():
    """Return the class of the logistic regressions per group."""
    folder = Path(importlib.util.find_spec("aif360").submodule_search_locations[0])
    path = folder / "algorithms/inprocessing/kamfadm-2012ecmlpkdd/fadm/lr/pr.py"
    spec = importlib.util.spec_from_file_location("prejudice_remover_of_aif360", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LRwPRType4
