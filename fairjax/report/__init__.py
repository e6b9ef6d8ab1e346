"""Tables, figures, statistics and the page of a finished run."""
