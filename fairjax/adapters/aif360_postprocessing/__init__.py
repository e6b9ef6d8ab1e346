"""AIF360's post-processors on arrays: reject option classification and equalised odds.

Both are fitted on scores or decisions of validation data and change decisions of any data. Both need the protected
attribute of the rows they decide. y and a are coded 0 and 1, a = 1 is the privileged group, and a decision of 1 says
y = 1. Nothing here computes with JAX, so many fits can run in processes of their own.
"""

from fairjax.adapters.aif360_postprocessing.equalized_odds import EqualizedOdds, equalized_odds
from fairjax.adapters.aif360_postprocessing.reject_option import POLARITIES, SEARCHES, RejectOption, reject_option

__all__ = ["POLARITIES", "SEARCHES", "EqualizedOdds", "RejectOption", "equalized_odds", "reject_option"]
