"""stub"""


class About:
    @classmethod
    def of(cls, subject):
        return cls()


def write(computed, about, folder):
    p = folder / "detect.html"
    p.write_text("x")
    return p


def findings(computed, about):
    return []
