"""A reader of pages that the tests of several commands share."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects the pictures, and checks that every element that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.pictures, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs))
        elif tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
