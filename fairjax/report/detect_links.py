"""Links from the pages of `debias` and `audit` to those of `detect`."""

from pathlib import Path
from urllib.parse import quote

from fairjax.report.layout import Section

PAGE = "detect.html"
"""Name of the page of `detect`."""


def links_of(folder: Path) -> list[tuple[str, str]]:
    """Return links to the pages of `detect` in a folder and in the folders that `detect` makes in it.

    Args:
        folder: the folder of the page that gets the links.

    Returns:
        Addresses relative to the folder, with texts.
    """
    pages = [path for path in (folder / PAGE, *sorted(folder.glob(f"detect-*/{PAGE}"))) if path.is_file()]
    texts = {path: path.parent.name.removeprefix("detect-") if path.parent != folder else "" for path in pages}
    return [
        (
            quote(path.relative_to(folder).as_posix()),
            f"Why the networks are biased: {texts[path]}" if texts[path] else "Why the networks are biased",
        )
        for path in pages
    ]


def why(folder: Path) -> Section | None:
    """Return a section of the page of a run that links to the pages of `detect`, or says how to make one.

    None if there is no such page and no saved network.
    """
    links, networks = links_of(folder), sorted(path.name for path in folder.glob("networks/*") if path.is_dir())
    if not links and not networks:
        return None
    text = "These results say how large the bias is, and not where it comes from."
    if networks:
        name = "trained" if "trained" in networks else networks[0]
        text += (
            f" `fairjax detect --network {folder / 'networks' / name}` writes a page on that: which features carry the "
            f"bias, whether layers encode the group, for whom the networks work worse. Saved networks: "
            f"{', '.join(networks)}."
        )
    return Section("why", "Why the networks are biased", text=text, links=links)
