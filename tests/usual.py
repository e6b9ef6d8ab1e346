"""The options with which users' programs are compiled, for tests that compare the last bits of different programs."""

import os

OPTIONS = (
    {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
    if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", "")
    else None
)
"""None if the tests are compiled so anyway; see `conftest.py`."""
