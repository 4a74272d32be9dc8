"""What the tests in a real browser share: Debian's chromium, driven by playwright."""

import shutil

import pytest

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser found: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONG = "good+a_long_name_that_a_phone_has_no_room_for+same"
ARMS = {"baseline": 0.0, "good": -0.08, "same": 0.0, "bad": 0.9, "good+same": -0.05, LONG: -0.02}


def errors(page) -> list[str]:
    """Return a list that fills with what the page's console complains about."""
    heard = []
    page.on("console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


def column(page, sheet: str, at: int) -> list[str]:
    cells = page.locator(f".sheet[data-name={sheet}] tbody tr:visible > :nth-child({at})")
    return [text.strip() for text in cells.all_inner_texts()]


def place_of(page, sheet: str, heading: str) -> int:
    """Return a column's place, from 1."""
    names = page.locator(f".sheet[data-name={sheet}] thead th").all_inner_texts()
    return [" ".join(name.split()) for name in names].index(heading) + 1


def show(page, name: str):
    page.locator(f"#{name}").scroll_into_view_if_needed()
    page.wait_for_selector(f"figure[data-chart={name}] svg")
    return page.locator(f"figure[data-chart={name}]")


def show_all(page) -> int:
    """Bring every chart into view, where it is drawn; return how many there are."""
    figures = page.locator("figure.chart").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        figure.locator("svg").wait_for()
    return len(figures)
