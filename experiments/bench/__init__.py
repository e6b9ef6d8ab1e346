"""Benchmarks of speed, and the contenders that fairjax is held against."""
