"""A dictionary for fixtures that hold several costly values, of which a test may need only some."""


class Computed(dict):
    """A dictionary whose values are computed by a function of their key when they are first asked for."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def __missing__(self, key):
        return self.setdefault(key, self.function(key))
