"""Detection of bias in text classifiers: heads on a pretrained sentence encoder, tested with names in templates."""
