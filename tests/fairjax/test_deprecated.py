"""Names of earlier versions still work, warn, and are what is now in their place."""

import importlib

import pytest

import fairjax
from fairjax import deprecated


@pytest.mark.parametrize("name", deprecated.MODULES)
def test_a_module_is_found_under_its_old_name(name):
    old = importlib.import_module(f"fairjax.{name}")
    assert getattr(fairjax, name) is (fairjax.influence if name == "influence" else old)  # now the function
    new, renamed = deprecated.MODULES[name]
    module = importlib.import_module(new)
    for before, now in (renamed or {"__doc__": "__doc__"}).items():
        if before != "__doc__":
            with pytest.warns(DeprecationWarning, match=f"fairjax.{name}.{before} is now {new}.{now}"):
                assert getattr(old, before) is getattr(module, now)
    with pytest.raises(AttributeError):
        getattr(old, "never" + "_there")


def test_functions_that_kept_their_names_are_found_in_old_modules():
    with pytest.warns(DeprecationWarning, match="fairjax.objective.best_threshold is now fairjax.selection"):
        from fairjax.objective import best_threshold  # type: ignore[import-not-found]
    with pytest.warns(DeprecationWarning, match="fairjax.storage.save is now fairjax.checkpoint.save"):
        assert fairjax.storage.save is fairjax.checkpoint.save
    assert best_threshold is fairjax.selection.best_threshold


@pytest.mark.parametrize("name", deprecated.BENCHMARKS)
def test_benchmarks_are_found_in_data(name):
    with pytest.warns(DeprecationWarning, match=f"fairjax.data.{name} is now fairjax.datasets.{name}"):
        assert getattr(fairjax.data, name) is getattr(fairjax.datasets, name)


def test_what_never_was_is_no_attribute():
    for module in (fairjax, fairjax.data):
        with pytest.raises(AttributeError, match="has no attribute 'never_there'"):
            getattr(module, "never" + "_there")


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in deprecated.NAMES.items() for name in names]
)
def test_a_renamed_object_is_found_under_its_former_name(module, name):
    current, _, attribute = deprecated.NAMES[module][name].rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{module}.{name} is now {current}.{attribute}"):
        former = getattr(importlib.import_module(module), name)
    assert former is getattr(importlib.import_module(current), attribute)
    with pytest.raises(AttributeError, match="has no attribute 'never_there'"):
        getattr(importlib.import_module(module), "never" + "_there")
