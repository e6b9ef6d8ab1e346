"""Why a network is biased: attribution, counterfactuals, concepts, and quality by group."""
