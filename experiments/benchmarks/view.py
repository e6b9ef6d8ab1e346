"""Queries of `bench.json` by name: medians, the best of several contenders, curves, the summary."""

from typing import Any, NamedTuple

from experiments.benchmarks import clock

OURS = "fairjax"
SEQUENTIAL = "PyTorch sequential, default Adam"
"""Prefix of the names of contenders that run the protocol as scripts do."""

WITHOUT_TERMS = "without terms"
"""The measure of training to which that with terms is compared."""


class Curve(NamedTuple):
    """A cost by size."""

    sizes: list[int]
    raw: list[list[float]]
    """Repetitions at each size."""

    @property
    def medians(self) -> list[float]:
        """One median per size."""
        return [clock.median(raw) for raw in self.raw]

    def times(self, factors: list[int]) -> "Curve":
        """Multiply the cost at each size by a factor: the cost of all units from that of one."""
        return Curve(
            self.sizes, [[value * factor for value in raw] for raw, factor in zip(self.raw, factors, strict=True)]
        )


class Figure(NamedTuple):
    """A figure of the summary."""

    name: str
    value: float | None
    """None if it was not measured."""
    unit: str


def raw(results: dict[str, Any], key: str, measure: str) -> list[float] | None:
    """Return the repetitions of a contender's measure; None if there are none."""
    return results["contenders"].get(key, {}).get("measures", {}).get(measure)


def value(results: dict[str, Any], key: str, measure: str) -> float | None:
    """Return the median of a contender's measure; None if it was not measured."""
    repetitions = raw(results, key, measure)
    return clock.median(repetitions) if repetitions else None


def names(results: dict[str, Any], prefix: str) -> list[str]:
    """Return the names of the contenders of a table, including those that failed."""
    return [key.removeprefix(prefix) for key in results["contenders"] if key.startswith(prefix)]


def best(results: dict[str, Any], prefix: str, measure: str) -> tuple[str, float] | None:
    """Return the contender with the smallest median among those whose keys begin with the prefix."""
    keys = [key for key in results["contenders"] if key.startswith(prefix)]
    medians = [(key, number) for key in keys if (number := value(results, key, measure)) is not None]
    return min(medians, key=lambda pair: pair[1], default=None)


def shapes(results: dict[str, Any]) -> list[str]:
    """Return the tables on which steps were measured."""
    return list(dict.fromkeys(key.split("/")[1] for key in results["contenders"] if key.startswith("steps/")))


def curve(results: dict[str, Any], part: str, measure: str) -> Curve:
    """Return a measure by size, for all points that were measured."""
    points = {
        int(key.split("/")[1]): numbers
        for key in results["contenders"]
        if key.startswith(f"{part}/") and (numbers := raw(results, key, measure))
    }
    sizes = sorted(points)
    return Curve(sizes, [points[size] for size in sizes])


def pruned(results: dict[str, Any]) -> Curve:
    """Return seconds per network and pruning step, by the number of units pruned at the end of the steps."""
    measures = results["contenders"].get("pruned/all", {}).get("measures", {})
    return Curve([int(name) for name in measures], list(measures.values()))


def peak(results: dict[str, Any], key: str) -> float | None:
    """Return the peak memory use of a contender's process in GiB."""
    return results["contenders"].get(key, {}).get("peak_memory_gib")


def compilation(results: dict[str, Any], key: str, stage: str = "training") -> float | None:
    """Return the compilation time of a stage in seconds."""
    return results["contenders"].get(key, {}).get("compilation_seconds", {}).get(stage)


def ratio(above: float | None, below: float | None) -> float | None:
    """Return a quotient; None if either number is missing."""
    return None if above is None or below is None else above / below


def extrapolated(results: dict[str, Any]) -> tuple[str, float] | None:
    """Return the faster contender with PyTorch's default protocol, and its seconds for a whole run of all seeds."""
    keys = [key for key in results["contenders"] if key.startswith(f"whole/compas/{SEQUENTIAL}")]
    repetitions = [(key, numbers) for key in keys if (numbers := raw(results, key, "whole"))]
    totals = [(key, sum(numbers) / len(numbers) * results["settings"]["seeds"]) for key, numbers in repetitions]
    return min(totals, key=lambda pair: pair[1], default=None)


def summary(results: dict[str, Any]) -> list[Figure]:
    """Return the figures that sum up the results."""
    figures = []
    for shape in shapes(results):
        fairjax = value(results, f"steps/{shape}/{OURS}", "training")
        torch = best(results, f"steps/{shape}/{SEQUENTIAL}", "training")
        limit = value(results, f"steps/{shape}/limit", "products")
        figures.append(
            Figure(f"{shape}: training step, faster than sequential PyTorch", _over(torch, fairjax), "times")
        )
        figures.append(Figure(f"{shape}: training step over its matrix products", ratio(fairjax, limit), "times"))
    whole_seconds = value(results, "whole/compas/fairjax", "whole")
    figures.append(
        Figure("whole COMPAS run, faster than sequential PyTorch", _over(extrapolated(results), whole_seconds), "times")
    )
    points = curve(results, "seeds", "training")
    greatest_ratio = None
    if points.sizes and points.sizes[0] == 1 and len(points.sizes) > 1:
        greatest_ratio = max(points.medians[1:]) / points.medians[0]
    largest = max(points.sizes, default=320)
    figures.append(
        Figure(f"cost per seed, at most, up to {largest} seeds, over that of one seed", greatest_ratio, "times")
    )
    for measure, cache in (("compilation", "cold"), ("compilation_cached", "cached")):
        seconds = value(results, "whole/compas/fairjax", measure)
        figures.append(Figure(f"compilation that the whole run waits for, {cache}", seconds, "s"))
    return figures


def _over(torch: tuple[str, float] | None, fairjax: float | None) -> float | None:
    return ratio(torch and torch[1], fairjax)
