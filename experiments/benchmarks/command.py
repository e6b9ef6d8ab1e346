"""The commands `bench` and `bench-compare`."""

from pathlib import Path

from rich.console import Console

from experiments.benchmarks import compare, figures, report, run
from experiments.benchmarks.settings import Bench
from fairjax.runs.files import write_text


def bench(settings: Bench, console: Console) -> int:
    """Measure what has not been measured yet, and write tables and figures.

    Args:
        settings: what to measure.
        console: where progress and the summary are printed.

    Returns:
        The exit status: 0, or 1 if a contender failed.
    """
    results = run.run(settings, console)
    pictures = figures.draw(results, settings.out)
    names = [picture.name for picture in pictures if picture.suffix == ".png"]
    write_text(settings.out / "bench.md", report.markdown(results, names))
    console.print(*report.summary(results), sep="\n", highlight=False, markup=False, soft_wrap=True)
    failed = [key for key, entry in results["contenders"].items() if "error" in entry]
    written = [settings.out / "bench.json", settings.out / "bench.md", *pictures]
    console.print("results:", *map(str, written), sep="\n", soft_wrap=True)
    if failed:
        console.print(f"failed: {', '.join(failed)}; the same command tries them again", markup=False, soft_wrap=True)
    return 1 if failed else 0


def bench_compare(words: list[str], console: Console) -> int:
    """Print the ratios between two files of results."""
    if len(words) != 2 or words[0].startswith("-"):
        usage = (
            "usage: python -m experiments bench-compare FIRST.json SECOND.json\n\nprints the ratios of two bench.json"
        )
        console.print(usage, highlight=False, markup=False)
        return 0 if words and words[0] in ("-h", "--help") else 2
    first, second = (run.read(Path(word)) for word in words)
    rows = compare.ratios(first, second)
    if not rows:
        raise ValueError(f"{words[0]} and {words[1]} have no measure in common")
    for line in compare.differences(first, second):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(compare.printed(rows))
    return 0
