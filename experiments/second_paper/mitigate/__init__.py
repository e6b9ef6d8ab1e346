"""Mitigation at all stages on the same splits and networks: `python -m experiments mitigate`."""
