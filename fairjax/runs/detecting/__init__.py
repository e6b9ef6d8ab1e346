"""Detection of bias in the networks of a run: one file per section, and what they share."""
