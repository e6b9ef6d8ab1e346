"""Experiments with fairjax: reproduction of the first paper, and benchmarks of speed, as commands beside its own."""
