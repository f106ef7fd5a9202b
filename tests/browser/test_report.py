"""The report in Chromium: readable on a wide screen and on a phone, in light and dark, without any request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from analysis.__main__ import main
from tests.support.experiment_data import EXPERIMENT, write_data, write_plan

pytestmark = pytest.mark.browser

WIDE, PHONE = 1400, 390
COVERED = """
const boxes = [...document.querySelectorAll('svg text')].filter(one => one.getClientRects().length)
  .map(one => [one.textContent.trim(), one.getBoundingClientRect()]).filter(([text]) => text);
const found = [];
boxes.forEach(([one, a], place) => boxes.slice(place + 1).forEach(([other, b]) => {
  const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (wide > 1 && tall > 3) found.push(one + ' / ' + other);
}));
return found;
"""
OUTSIDE = """
return [...document.querySelectorAll('svg')].filter(one => one.getClientRects().length).flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  }).map(one => one.textContent.trim());
});
"""
CONTRAST = """
const light = text => {
  const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(one => one / 255)
    .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = one => {
  for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('h1, h2, p, b, dt, dd, td, th, small, svg text')]
  .filter(one => one.getClientRects().length && one.textContent.trim())
  .map(one => {
    const style = getComputedStyle(one);
    const colours = [light(one.closest('svg') ? style.fill : style.color), light(behind(one))].sort((a, b) => b - a);
    return [one.textContent.trim().slice(0, 40), (colours[0] + 0.05) / (colours[1] + 0.05)];
  }).filter(([_, ratio]) => ratio < 4.5);
"""

Open = Callable[[str, int, str], webdriver.Chrome]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of one experiment: `good`, `early` and `uneven`, whose shares are not those of the plan."""
    folder = tmp_path_factory.mktemp("reports")
    write_data(folder / "data", 300)
    (folder / "data" / "SIMULATED").touch()
    plans = {"good": (5_000, 5_000), "early": (5_000, 5_000), "uneven": (8_000, 2_000)}
    for name, shares in plans.items():
        plan = write_plan(folder / f"{name}.yaml", shares=shares)
        planned = ["--planned", "5000"] if name == "early" else []
        where = ["--data", str(folder / "data"), "--out", str(folder / name), "--experiments", str(plan)]
        assert main(["report", EXPERIMENT, *where, "--window", "7", *planned]) == 0
    return folder


@pytest.fixture
def opened(browser: webdriver.Chrome, reports: Path) -> Iterator[Open]:
    """Opens a report at a width, light or dark."""

    def at(name: str, width: int, scheme: str) -> webdriver.Chrome:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme_of = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_of)
        browser.get((reports / name / "report.html").as_uri())
        return browser

    yield at
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("name", ["good", "early", "uneven"])
def test_the_report_fits_and_can_be_read(opened: Open, name: str, width: int, scheme: str) -> None:
    window = opened(name, width, scheme)
    assert window.execute_script("return document.documentElement.scrollWidth") <= width
    assert window.execute_script(COVERED) == []
    assert window.execute_script(OUTSIDE) == []
    assert window.execute_script(CONTRAST) == []
    log: list[dict[str, Any]] = window.get_log("browser")  # Any: JSON
    assert log == []


def test_a_wide_table_needs_no_scrolling(opened: Open) -> None:
    window = opened("early", WIDE, "light")
    wide = "const box = document.querySelector('.wide'); return box.scrollWidth <= box.clientWidth"
    assert window.execute_script(wide)


def test_numbers_behind_a_failed_gate_are_folded(opened: Open) -> None:
    window = opened("uneven", WIDE, "light")
    visible = "return [...document.querySelectorAll('table')].filter(one => one.checkVisibility()).length"
    assert window.execute_script(visible) == 0
    window.find_element("css selector", "summary").click()
    assert window.execute_script(visible) == 1
