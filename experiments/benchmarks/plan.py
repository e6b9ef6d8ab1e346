"""Which contenders are measured, and in which order."""

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.benchmarks.settings import Bench

CURVE_FUNCTIONS = {"seeds": "seeds", "rows": "many_rows", "width": "width", "depth": "depth"}
"""Parts that are curves, and the function of `scaling` that measures one point of each."""

FRAMEWORKS = {"linen": None, "nnx": None, "equinox": "equinox", "keras": "keras", "torch": "torch"}
"""Frameworks of brought networks, the functions of `brought_models`, and the package that each needs."""


class Contender(NamedTuple):
    """A contender: a function that is measured in a process of its own."""

    function: str
    """Module and function in this package."""
    arguments: dict[str, Any]
    needs: str | None = None
    """A package that the contender requires; without it the contender is skipped."""


def contenders(settings: Bench) -> dict[str, Contender]:
    """Return all contenders of the chosen parts by key: part, then table or size, then name."""
    result = dict(_steps(settings))
    if "whole" in settings.parts:
        result["whole/compas/fairjax"] = Contender("whole_run.measure", {"real": settings.data == "found"})
        for name, fused, threads in _adams(settings):
            arguments = {"fused": fused, "threads": threads}
            result[f"whole/compas/{name}"] = Contender("torch_contenders.whole", arguments, "torch")
    for part, function in CURVE_FUNCTIONS.items():
        if part in settings.parts:
            for size in getattr(settings, _setting(part)):
                result[f"{part}/{size}"] = Contender(f"scaling.{function}", {"size": size})
    if "pruned" in settings.parts:
        result["pruned/all"] = Contender("scaling.pruned", {})
    if "brought" in settings.parts:
        for framework, package in FRAMEWORKS.items():
            result[f"brought/{framework}"] = Contender("brought.mlp", {"framework": framework}, package)
        result["brought/resnet18"] = Contender("brought.resnet", {}, "torch")
    if "detection" in settings.parts:
        for shape in settings.shapes:
            result[f"detection/{shape}/fairjax"] = Contender("detection.all_networks", {"shape": shape})
            for threads in settings.threads:
                arguments = {"shape": shape, "threads": threads}
                name = f"detection/{shape}/captum, {count_in_words(threads)}"
                result[name] = Contender("torch_detection.one_network", arguments, "captum")
    if "reductions" in settings.parts:
        for shape in settings.shapes:
            result[f"reductions/{shape}/fairjax"] = Contender("reductions.all_networks", {"shape": shape})
            for function, name, needs in (("scikit_learn", "scikit-learn", "fairlearn"), ("torch", "PyTorch", "torch")):
                for threads in settings.threads:
                    key = f"reductions/{shape}/Fairlearn, {name}, {count_in_words(threads)}"
                    arguments = {"shape": shape, "threads": threads}
                    result[key] = Contender(f"fairlearn_reductions.{function}", arguments, needs)
    if "terms" in settings.parts:
        for shape in settings.shapes:
            result[f"terms/{shape}/fairjax"] = Contender("terms.all_terms", {"shape": shape})
    of_shapes = {"steps", "torch", "detection", "reductions", "terms"}
    tables = [*settings.shapes] if of_shapes & {*settings.parts} else []
    tables += ["compas"] if {"whole", "seeds", "pruned", "brought"} & {*settings.parts} else []
    preparation = {f"data/{shape}": Contender("tables.make", {"shape": shape}) for shape in tables}
    return preparation | result


def _steps(settings: Bench) -> Iterator[tuple[str, Contender]]:
    for shape in settings.shapes:
        table = {"shape": shape}
        if "steps" in settings.parts:
            yield f"steps/{shape}/fairjax", Contender("fairjax_contender.steps", table)
            yield f"steps/{shape}/limit", Contender("limits.limits", table)
        if "torch" in settings.parts:
            for name, fused, threads in _adams(settings):
                arguments = {**table, "fused": fused, "threads": threads}
                yield f"steps/{shape}/{name}", Contender("torch_contenders.sequential", arguments, "torch")
            for compiled in (False, True)[: 1 + settings.compiled]:
                for threads in settings.threads:
                    name = f"PyTorch vmap, {'compiled' if compiled else 'eager'}, {count_in_words(threads)}"
                    arguments = {**table, "compiled": compiled, "threads": threads}
                    yield f"steps/{shape}/{name}", Contender("torch_contenders.vmapped", arguments, "torch")
            yield f"steps/{shape}/scikit-learn", Contender("torch_contenders.sklearn_scan", table, "torch")


def _adams(settings: Bench) -> Iterator[tuple[str, bool, int]]:
    for fused in (False, True):
        for threads in settings.threads:
            yield (
                f"PyTorch sequential, {'fused' if fused else 'default'} Adam, {count_in_words(threads)}",
                fused,
                threads,
            )


def count_in_words(threads: int) -> str:
    """Return a number of threads in words."""
    return f"{threads} thread" + ("s" if threads > 1 else "")


def _setting(part: str) -> str:
    return f"scaling_{part}" + ("s" if part in ("width", "depth") else "")


def lacking(contender: Contender) -> str | None:
    """Describe what a contender needs but this machine lacks; None if it can run."""
    if contender.needs is not None and importlib.util.find_spec(contender.needs) is None:
        return f"{contender.needs} is not installed: pip install 'fairjax[bench]'"
    if contender.arguments.get("compiled") and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "torch.compile needs a C++ compiler, and there is none"
    return None
