"""Benchmarks of speed, and the contenders that fairjax is compared with."""
