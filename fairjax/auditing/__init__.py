"""Audits of files of predictions: rates and gaps by group, with intervals, from counts made in one pass."""

from fairjax.auditing.audit import Audit, audit

__all__ = ["Audit", "audit"]
