"""AIF360's postprocessors on arrays: reject option classification and equalised odds.

Both are fitted on scores or decisions on validation data and then applied to any data. Both need the protected
attribute of the rows to be decided. y and a are coded 0 and 1, a = 1 is the privileged group, and a decision of 1
predicts y = 1. These modules do not use JAX, so many fits can run in separate processes.
"""

from fairjax.adapters.aif360_postprocessing.equalized_odds import EqualizedOdds, equalized_odds
from fairjax.adapters.aif360_postprocessing.reject_option import POLARITIES, SEARCHES, RejectOption, reject_option

__all__ = ["POLARITIES", "SEARCHES", "EqualizedOdds", "RejectOption", "equalized_odds", "reject_option"]
