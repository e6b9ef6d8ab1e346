"""Experiments with fairjax: the command line, the runs, their tables and figures."""
