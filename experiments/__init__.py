"""Experiments with fairjax: the command line, the runs, and their tables and figures."""
