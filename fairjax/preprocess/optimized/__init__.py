"""Optimized pre-processing by a linear programme."""

from fairjax.preprocess.optimized.distortions import distortion_adult, distortion_compas
from fairjax.preprocess.optimized.preprocessor import OptimizedMap, OptimizedPreprocessing
from fairjax.preprocess.optimized.programme import Programme, Solution, smallest_epsilon, solve

__all__ = [
    "OptimizedMap",
    "OptimizedPreprocessing",
    "Programme",
    "Solution",
    "distortion_adult",
    "distortion_compas",
    "smallest_epsilon",
    "solve",
]
