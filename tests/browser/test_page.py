"""The page as a person meets it: headless Chromium before a real service, a real Redis and real ONNX Runtime."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import HOSTILE_ITEM, HOSTILE_TITLE, HOSTILE_USER
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.browser


class Page:
    """The page in the words of its user."""

    def __init__(self, window: webdriver.Chrome, url: str) -> None:
        self.window, self.url = window, url

    def open(self, **fields: str | int) -> None:
        # By way of an empty page: a mere change of the fragment would not load anything.
        self.window.get("about:blank")
        fragment = "&".join(f"{name}={value}" for name, value in fields.items())
        self.window.get(f"{self.url}/#{fragment}")
        self.settle()

    def rank(self, user: str) -> None:
        field = self.one("#user")
        field.clear()
        field.send_keys(user, Keys.ENTER)
        self.until(lambda: user in self.text("#status"))
        self.settle()

    def settle(self) -> None:
        self.until(lambda: bool(self.window.execute_script(_SETTLED)))

    def until(self, holds: Callable[[], bool]) -> None:
        WebDriverWait(self.window, 20, poll_frequency=0.02).until(lambda _: holds())

    def one(self, selector: str) -> WebElement:
        return self.window.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.window.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]


@pytest.fixture
def page(browser: webdriver.Chrome, page_url: str, behaviours: None) -> Iterator[Page]:
    browser.get_log("browser")  # what an earlier test left
    shown = Page(browser, page_url)
    shown.open()
    yield shown
    said = browser.get_log("browser")
    assert [entry for entry in said if entry["level"] != "INFO"] == []  # no error, and nothing that the policy stopped


def load(url: str, rows: Sequence[tuple[str, str, int]]) -> None:
    """Store behaviours of (user, item, time in ms)."""
    document = {"behaviours": [{"user_id": user, "item_id": item, "ts": ts} for user, item, ts in rows]}
    request = urllib.request.Request(
        f"{url}/behaviours", json.dumps(document).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["stored"] == len(rows)


@pytest.fixture(scope="session")
def behaviours(page_url: str) -> None:
    """Two users with a past, one of them with markup for an id."""
    watched = [("u1", item, 1_700_000_000_000 + place) for place, item in enumerate(["i5", "i2", HOSTILE_ITEM])]
    rows = [*watched, (HOSTILE_USER, "i7", 1_700_000_000_000)]
    load(page_url, rows)


def test_without_a_model_that_reads_users_the_page_says_so_or_lists_the_stores(
    browser: webdriver.Chrome, userless_url: str, own_redis: RedisServer
) -> None:
    page = Page(browser, userless_url)
    page.window.get(userless_url)
    page.until(lambda: "holds no users yet" in page.text("#status"))
    page.rank("anyone")
    assert "Ranked" in page.text("#status")
    load(userless_url, [("stored-1", "i5", 1_700_000_000_000), ("stored-2", "i6", 1_700_000_000_000)])
    page.open()
    assert page.one("#user").get_attribute("value") == "stored-1"
    assert page.texts("#behaviours .title") == ["Film i5"]
    own_redis.kill()
    page.window.get("about:blank")
    page.window.get(userless_url)
    page.until(lambda: "did not answer" in page.text("#status"))
    page.window.get_log("browser")


def test_opening_the_page_ranks_the_first_known_user_with_both_models(page: Page) -> None:
    assert page.one("#user").get_attribute("value") == "u1"
    assert page.texts(".model h2") == ["MGNM @ 1", "Pyramid Mixer @ 1"]
    assert [len(card.find_elements(By.CSS_SELECTOR, "tbody tr")) for card in page.all(".model")] == [20, 20]
    assert "Ranked" in page.text("#status")
    assert "mgnm@1 in" in page.text("#status")


def test_watched_items_stand_newest_first_with_their_titles(page: Page) -> None:
    assert page.texts("#behaviours .title") == [HOSTILE_ITEM, HOSTILE_TITLE, "Film i5"]
    assert all("click" in line for line in page.texts("#behaviours .sub"))


def test_own_arm_is_told_and_its_model_is_marked(page: Page) -> None:
    header = page.text(".header-line").removeprefix("X-AB-Bucket: ")
    arm = header.split(":")[1].split(";")[0]
    assert header.startswith("rank=pyramid-vs-mgnm:")
    assert arm in page.text(".variant")
    assert "split" in page.text(".layer")
    assert "bucket" in page.text(".layer")
    [own] = page.all(".model.own")
    assert own.get_attribute("data-bundle") == {"control": "mgnm@1", "treatment": "pyramid_mixer@1"}[arm]
    assert "this user" in own.text


def test_both_arms_are_met_by_going_through_users(page: Page) -> None:
    met = set()
    for user in ("u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"):
        page.rank(user)
        met.add(page.one(".model.own").get_attribute("data-bundle"))
    assert met == {"mgnm@1", "pyramid_mixer@1"}


def test_stage_times_are_drawn_and_told_in_words(page: Page) -> None:
    for card in page.all(".model"):
        stages = [part.get_attribute("title").split()[0] for part in card.find_elements(By.CSS_SELECTOR, ".bar span")]
        for stage in ("store", "queue", "encode", "score", "order"):
            assert stage in stages
            assert stage in card.text


def test_what_explains_the_scores_is_shown(page: Page) -> None:
    card = page.all(".model")[1]
    assert all(period in card.text for period in ("short", "middle", "long"))
    assert all("level" in chip.text for chip in card.find_elements(By.CSS_SELECTOR, "tbody .chip.why"))
    assert len(card.find_elements(By.CSS_SELECTOR, "tbody .chip.why")) == 20


def test_rank_difference_is_that_of_the_two_lists(page: Page) -> None:
    page.open(user="u1", count=40, seed=3)
    for more in page.all(".more"):
        more.click()
    lists = [
        [row.get_attribute("data-item") for row in card.find_elements(By.CSS_SELECTOR, "tbody tr")]
        for card in page.all(".model")
    ]
    assert sorted(map(str, lists[0])) == sorted(map(str, lists[1]))
    moves = [cell.text for cell in page.all(".model")[0].find_elements(By.CSS_SELECTOR, "td.move")]
    for place, (item, move) in enumerate(zip(lists[0], moves, strict=True)):
        by = lists[1].index(item) - place
        assert move == (f"▲ {by}" if by > 0 else f"▼ {-by}" if by < 0 else "–")


def test_same_seed_draws_the_same_candidates_and_another_seed_others(page: Page) -> None:
    def commands(*seeds: int) -> list[str]:
        said = []
        for seed in seeds:
            page.open(user="u2", count=10, seed=seed)
            said.append(page.text("#curl"))
        return said

    first, again, other = commands(5, 5, 6)
    assert first == again
    assert first != other


def test_state_comes_from_the_cache_the_second_time(page: Page) -> None:
    page.rank("u20")
    page.open(user="u20")
    assert all("state from cache" in card.text for card in page.all(".model"))


def test_new_user_is_welcome(page: Page) -> None:
    page.rank("somebody never met")
    assert "Nothing yet" in page.text("#behaviours")
    assert len(page.all(".model tbody tr")) == 40


def test_markup_in_titles_and_ids_stays_text(page: Page) -> None:
    page.open(user="u3", count=60)
    for more in page.all(".more"):
        more.click()
    titles = page.texts(".model td .title")
    assert HOSTILE_TITLE in titles
    assert HOSTILE_ITEM in titles
    page.rank(HOSTILE_USER)
    assert HOSTILE_USER in page.text("#status")
    assert page.window.title == "Ranker"
    assert page.all("main img, main b, main script") == []


def test_curl_quotes_what_a_shell_would_run(page: Page) -> None:
    page.open(user="u3", count=60)
    command = page.text("#curl")
    assert command.startswith(f"curl -i {page.url}/rank -H 'content-type: application/json' -d '")
    assert "'\\''; echo owned #" in command


def test_curl_names_the_port_that_ranks_if_operators_have_their_own(
    browser: webdriver.Chrome, operators_url: tuple[str, str]
) -> None:
    callers, operators = operators_url
    page = Page(browser, operators)
    page.open(user="u3", count=5)
    assert page.text("#curl").startswith(f"curl -i {callers}/rank -H ")
    page.window.get_log("browser")


def test_keyboard_alone_reaches_the_ranking(page: Page) -> None:
    page.one("body").send_keys(Keys.TAB)
    assert page.window.switch_to.active_element.text == "Skip to the rankings"
    page.one("#user").send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB)
    assert page.window.switch_to.active_element.text == "Rank"
    page.window.switch_to.active_element.send_keys(Keys.ENTER)
    page.settle()
    assert page.text("#status").startswith("Ranked")


def test_error_of_the_service_is_told_and_the_page_goes_on(page: Page) -> None:
    page.window.execute_script("document.getElementById('ask').noValidate = true")
    field = page.one("#count")
    page.window.execute_script("document.getElementById('ask').reportValidity = () => true")
    field.clear()
    field.send_keys("100000", Keys.ENTER)
    page.until(lambda: page.one("#problem").is_displayed())
    assert "count" in page.text("#problem")
    assert page.all(".model") == []
    page.window.get_log("browser")  # the refused request itself is logged by the browser
    page.open(user="u1")
    assert not page.one("#problem").is_displayed()
    assert len(page.all(".model")) == 2


def test_another_user_is_drawn_from_those_the_models_know(page: Page) -> None:
    page.rank("somebody never met")
    page.one("#another").click()
    page.until(lambda: page.one("#user").get_attribute("value") != "somebody never met")
    page.settle()
    assert page.one("#user").get_attribute("value") in {f"u{index}" for index in range(1, 31)}


def test_suggestions_follow_what_is_typed(page: Page) -> None:
    page.one("#user").clear()
    page.one("#user").send_keys("u2")
    wanted = ["u2", *(f"u2{digit}" for digit in range(10))]
    page.until(lambda: page.window.execute_script(_SUGGESTED) == wanted)


def test_a_click_is_stored_and_the_models_rank_again(page: Page) -> None:
    page.open(user="u12", count=40)
    first = page.one(".model tbody .pick")
    title, item = first.text, page.one(".model tbody tr").get_attribute("data-item")
    before = [
        row.get_attribute("data-item") for row in page.all(".model")[0].find_elements(By.CSS_SELECTOR, "tbody tr")
    ]
    first.click()
    page.until(lambda: "Ranked again" in page.text("#status"))
    page.settle()
    assert f"User u12 clicked “{title}”" in page.text("#status")
    assert page.text("#behaviours .fresh .title") == title
    assert "clicked" in page.text("#behaviours .fresh .sub")
    assert item not in {row.get_attribute("data-item") for row in page.all(".model tbody tr")}
    assert page.texts(".model th:nth-child(3)") == ["since click"] * 2
    rows = page.all(".model")[0].find_elements(By.CSS_SELECTOR, "tbody tr")
    left = [one for one in before if one != item]
    for place, row in enumerate(rows):
        if (moved := row.get_attribute("data-item")) in left:
            by = left.index(moved) - place
            assert row.find_element(By.CSS_SELECTOR, "td.move").text == (
                f"▲ {by}" if by > 0 else f"▼ {-by}" if by < 0 else "–"
            )
    page.one("#ask .primary").click()
    page.until(lambda: "Ranked again" not in page.text("#status") and "Ranked" in page.text("#status"))
    assert page.texts(".model th:nth-child(3)") == ["vs other"] * 2


def test_the_keyboard_stays_at_its_place_after_a_click(page: Page) -> None:
    page.open(user="u13", count=40)
    second = page.all(".model")[1].find_elements(By.CSS_SELECTOR, ".pick")[4]
    assert second.accessible_name == second.text
    second.send_keys(Keys.ENTER)
    page.until(lambda: "Ranked again" in page.text("#status"))
    page.settle()
    again = page.all(".model")[1].find_elements(By.CSS_SELECTOR, ".pick")[4]
    assert page.window.switch_to.active_element == again


def test_new_items_are_marked_and_always_shown(page: Page) -> None:
    page.open(user="u14", count=40, extra="brand-new,another-one")
    for card in page.all(".model"):
        rows = card.find_elements(By.CSS_SELECTOR, "tbody tr")
        assert len(rows) == 22
        assert [row.get_attribute("data-item") for row in rows[20:]] == ["brand-new", "another-one"]
        assert all("new: the model does not know it" in row.text for row in rows[20:])
    page.one(".more").click()
    assert len(page.all(".model")[0].find_elements(By.CSS_SELECTOR, "tbody tr")) == 42


def test_every_control_has_a_name(page: Page) -> None:
    controls = page.all("a, button, input, summary, [tabindex='0']")
    assert len(controls) > 40
    assert [one.get_attribute("outerHTML") for one in controls if not one.accessible_name] == []


def test_store_that_is_away_is_told_in_words(page: Page, store: RedisServer) -> None:
    store.freeze()
    try:
        page.rank("u9")
        assert all("the store did not answer" in card.text for card in page.all(".model"))
        assert page.text("#history-note") == "The store did not answer."
        assert len(page.all(".model tbody tr")) == 40
    finally:
        store.thaw()

        def answers_again() -> bool:
            page.open(user="u1")
            return not page.one("#history-note").is_displayed() and not page.all(".model .chip.warn")

        page.until(answers_again)


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_is_cut_off_at_any_width(page: Page, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open(user="u1", count=60)
        assert page.window.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(page: Page, scheme: str) -> None:
    """WCAG 2 AA: 4.5 for text."""
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.window.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    try:
        page.open(user="u1", count=60)
        assert page.window.execute_script(_LOW_CONTRAST) == []
    finally:
        page.window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


_SETTLED = """
const shown = document.querySelector("tbody tr, .problem:not([hidden])");
return shown !== null && document.getElementById("models").ariaBusy === "false";
"""

_SUGGESTED = "return Array.from(document.querySelectorAll('#users option'), (option) => option.value);"

_LOW_CONTRAST = """
const numbers = (colour) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return { rgb: [r, g, b], opaque: a === 255 };
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const under = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = numbers(getComputedStyle(at).backgroundColor);
    if (colour.opaque) return colour.rgb;
  }
  return [255, 255, 255];
};
const bad = new Set();
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility()) continue;
  const [a, b] = [light(numbers(getComputedStyle(element).color).rgb), light(under(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return [...bad];
"""
