"""Accuracy of under-represented groups: more weight, more rows, transfer, and several tasks."""
