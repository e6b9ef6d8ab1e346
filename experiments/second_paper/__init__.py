"""Experiments of the second paper: mitigation of bias before, in and after training."""
