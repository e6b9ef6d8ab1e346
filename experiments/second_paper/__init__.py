"""Experiments of Du, Yang, Zou and Hu (2020), "Fairness in deep learning: a computational perspective"."""
