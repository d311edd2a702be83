"""The report as a reader sees it, in headless Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_run import HOSTILE, TAGS, add_failure, make_heard_run, make_run

from fcn4dist.report.comparison import write_comparison
from fcn4dist.report.page import write_report

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if PROGRAM is None or DRIVER is None:
    missing = "no Chromium with its chromedriver here (Debian: apt-get install chromium chromium-driver)"
    pytest.skip(missing, allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

pytestmark = pytest.mark.browser
WIDTHS = (390, 1400)
EMPTY_PICTURES = """
return [...document.querySelectorAll("svg")].filter(svg => {
  const box = svg.getBoundingClientRect();
  const shapes = [...svg.querySelectorAll("path, rect, circle, text")];
  const drawn = shapes.filter(shape => { const b = shape.getBBox(); return b.width > 0 || b.height > 0; });
  return box.width < 10 || box.height < 5 || drawn.length < 2;
}).map(svg => svg.outerHTML.slice(0, 200));
"""

NARROW_CELLS = """
return [...document.querySelectorAll("td")].filter(cell => {
  const width = cell.getBoundingClientRect().width;
  return cell.checkVisibility() && width < (cell.className === "path" ? 180 : 60);
}).map(cell => cell.outerHTML.slice(0, 200));
"""
LABELS_CUT_OFF = """
return [...document.querySelectorAll(".charts svg text")].filter(text => {
  const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
  return box.left < frame.left || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
}).map(text => text.outerHTML);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    with contextlib.closing(_Quitting(found)):
        yield found


class _Quitting:
    def __init__(self, browser: Any) -> None:
        self.close = browser.quit


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    plain = make_heard_run(folder / "plain")
    hostile = make_run(folder / "<script>alert(0)", tags=[*HOSTILE, *TAGS])
    add_failure(hostile, "\n".join(HOSTILE))
    return {
        "plain": write_report(plain.path),
        "hostile": write_report(hostile.path),
        "compared": write_comparison([plain.path, hostile.path], folder / "compare.html"),
    }


def show(browser: Any, page: Path, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["plain", "hostile", "compared"])
def test_every_picture_is_drawn_and_nothing_sticks_out(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    show(browser, pages[name], width, scheme)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('svg').length") >= 4
    assert browser.execute_script(EMPTY_PICTURES) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["plain", "hostile", "compared"])
def test_cells_are_wide_enough_to_read_and_labels_are_whole(
    browser: Any, pages: dict[str, Path], name: str, width: int
) -> None:
    show(browser, pages[name], width)
    assert browser.execute_script(NARROW_CELLS) == []
    assert browser.execute_script(LABELS_CUT_OFF) == []


def test_the_hardest_clips_are_seen_and_heard(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["plain"], 390)
    sizes = "return [...document.images].map(image => [image.naturalWidth, image.naturalHeight])"
    assert browser.execute_script(sizes) == [[192, 48]] * 20
    played = (
        "const done = arguments[0], audio = document.querySelector('audio');"
        "audio.onloadedmetadata = () => done(audio.duration); audio.onerror = () => done(audio.error.message); audio.load()"
    )
    assert browser.execute_async_script(played) == pytest.approx(0.1)
    assert browser.get_log("browser") == []


def test_dark_and_light_differ(browser: Any, pages: dict[str, Path]) -> None:
    found = []
    for scheme in ("light", "dark"):
        show(browser, pages["plain"], 1400, scheme)
        found.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert found[0] != found[1]


def test_the_table_of_tags_sorts_by_each_column(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["plain"], 1400)

    def cells(column: int) -> list[str]:
        code = "return [...document.querySelectorAll('#tag-table tbody tr')].map(r => r.cells[arguments[0]].textContent.trim())"
        return list(browser.execute_script(code, column))

    def click(column: int) -> None:
        browser.execute_script(
            "document.querySelectorAll('#tag-table thead button')[arguments[0]].click()",
            column,
        )

    click(0)
    assert cells(0) == sorted(TAGS)
    click(0)
    assert cells(0) == sorted(TAGS, reverse=True)
    for column in (1, 2):
        click(column)
        values = [float(cell) for cell in cells(column)]
        assert values == sorted(values, reverse=True)
        click(column)
        assert [float(cell) for cell in cells(column)] == values[::-1]
    assert sorted(cells(0)) == sorted(TAGS)


def test_without_scripts_the_page_is_whole(browser: Any, pages: dict[str, Path]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages["plain"], 1400)
        rows = browser.find_elements("css selector", "#tag-table tbody tr")
        assert len(rows) == len(TAGS)
        assert all(row.is_displayed() for row in rows)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_hostile_names_are_text(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["hostile"], 1400)
    first = "return document.querySelector('#tag-table').textContent.includes('<script>alert(1)</script>')"
    assert browser.execute_script(first)
    assert browser.execute_script("return document.querySelectorAll('script, img').length") == 1


def test_it_prints_on_paper(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["plain"], 1400, "dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 20_000
