"""What a run needs: settings, data, stages, saved states, several hosts, and tidy tables of results."""
