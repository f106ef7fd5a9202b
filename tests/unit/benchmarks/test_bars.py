"""Whether a bar is reached is computed from the results, and the README files follow them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import SERVING
from benchmarks.load.sweeps import grown, timings
from benchmarks.peers.answers import items_of
from benchmarks.peers.peer import ECHOES, PEERS, REQUIREMENTS
from benchmarks.report import bars, pages, peers
from benchmarks.report.pages import refresh
from contract.command_line import CommandError

ROOT = Path(__file__).resolve().parents[3]


def closed(rate: float, p50: float, cpu: float) -> dict[str, Any]:
    one = {"rate": rate, "p50_ms": p50, "p99_ms": 3 * p50, "cpu_us": cpu}
    offered = {"goodput": 200.0, "p99_ms": 9.0, "generator_cores": 0.1, "late_p99_ms": 1.0}
    return {"closed": {"1": one, "32": one}, "open": {"200": offered}, "proportional_mib": 100.0, "compared": 300}


def document() -> dict[str, Any]:
    """Three rounds; in the second one everything was twice as slow."""
    rounds = []
    for slow in (1.0, 2.0, 1.0):
        rounds.append(
            {
                "ours": closed(4_500 / slow, 0.6 * slow, 200 * slow),
                "ours_no_cache": closed(2_900 / slow, 1.0 * slow, 300 * slow),
                "ours_two_arms": closed(3_150 / slow, 1.0 * slow, 300 * slow),
                "fastapi": closed(1_000 / slow, 1.0 * slow, 1_000 * slow),
                "mosec": closed(2_500 / slow, 3.0 * slow, 400 * slow),
                "echo": closed(20_000 / slow, 0.1 * slow, 40 * slow),
                "onnx_loop": {f"{graph}_{batch}": 10.0 for graph in ("encode", "score") for batch in (1, 8, 32)},
            }
        )
    titles = {name: name for name in (*rounds[0], "ray") if name != "onnx_loop"}
    conditions = {
        "candidates": 200, "deadline_ms": 50, "cores": 2, "processor": "P", "python": "3", "packages": {"numpy": "2"},
        "commit": "c", "date": "d", "command": "python -m benchmarks.peers",
    }  # fmt: skip
    return {"rounds": rounds, "titles": titles, "failed": {"ray": "not installed: no wheel"}, "conditions": conditions}


def test_a_bar_is_the_median_of_the_ratios_of_each_round() -> None:
    found = {bar.title.split(",")[0]: bar for bar in bars.of_peers(document())}
    cache_on = found["state cache on against plain FastAPI"]
    assert cache_on.value == pytest.approx(4.5)
    assert cache_on.is_reached
    assert cache_on.verdict == "reached by 0%"
    cache_off = found["state cache off against plain FastAPI"]
    assert cache_off.value == pytest.approx(2.9)
    assert cache_off.verdict == "missed by 3%"
    echo = found["CPU a request against the ASGI echo"]
    assert (echo.value, echo.verdict) == (5.0, "missed by 79%")
    assert found["p50 at 1 connection against mosec"].is_reached


def test_the_best_of_a_peer_that_is_tuned_in_two_ways_counts() -> None:
    tuned = document()
    for one in tuned["rounds"]:
        one["mosec_2"] = closed(one["mosec"]["closed"]["32"]["rate"] * 2, 99.0, 400.0)
    found = {bar.title.split(",")[0]: bar for bar in bars.of_peers(tuned)}
    assert found["state cache on against mosec"].value == pytest.approx(0.9)
    assert found["p50 at 1 connection against mosec"].value == pytest.approx(0.2)


def test_a_server_without_figures_is_not_measured_and_reaches_nothing() -> None:
    spoilt = document()
    for one in spoilt["rounds"]:
        del one["mosec"]
    found = {bar.title.split(",")[0]: bar for bar in bars.of_peers(spoilt)}
    bar = found["state cache on against mosec"]
    assert math.isnan(bar.value)
    assert bar.verdict == "not measured"
    assert not bar.is_reached


def test_one_round_that_lacks_a_server_does_not_hide_the_others() -> None:
    spoilt = document()
    del spoilt["rounds"][1]["fastapi"]
    assert bars.of_peers(spoilt)[0].value == pytest.approx(4.5)


def test_bars_of_the_service_come_from_its_sections() -> None:
    def cpu(value: float) -> dict[str, Any]:
        return {"median": {"cpu_us": value}}

    sections = {
        "candidates": {"200": cpu(100), "2000": cpu(900)},
        "histories": {"50 off": cpu(100), "200 off": cpu(120)},
        "catalogue": {"1349": cpu(100), "1000000": {**cpu(105), "tables_added": 1.2, "start_seconds": 6.0}},
        "memory": {"grown_percent": -0.2},
        "overload": {
            "share_of_peak": {"2": 0.96, "5": 0.89, "10": 0.9}, "refused_below": 0.0, "recovery_seconds": 0.5,
        },
    }  # fmt: skip
    found = {bar.title: bar for bar in bars.of_service(sections)}
    missed = {title for title, bar in found.items() if not bar.is_reached}
    assert missed == {
        "CPU of 200 behaviours against 50, cache off", "start with 1,000,000 items",
        "goodput at 5 x capacity, of the peak",
    }  # fmt: skip
    assert all(bar.verdict == "not measured" for bar in bars.of_service({}))


def test_the_table_of_peers_shows_medians_and_names_what_was_not_installed() -> None:
    lines = peers.table(document())
    assert "| ours | 4,500 | 200 | 0.60 | 1.8 | 100 |" in lines
    assert "| ray | not installed | | | | |" in lines


def test_results_are_written_for_people_and_only_the_committed_ones_change_the_readme(tmp_path: Path) -> None:
    before = [page.read_text() for page in pages.PAGES]
    (tmp_path / "peers.json").write_text(json.dumps(document()))
    refresh(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"peers.json", "peers.md", "peers.png", "bars.md"}
    assert "missed by 3%" in (tmp_path / "bars.md").read_text()
    assert [page.read_text() for page in pages.PAGES] == before


def test_a_marked_section_is_filled_and_the_rest_of_a_page_stays() -> None:
    text = "a\n<!-- speed: bars -->\nold\n<!-- /speed -->\nb\n<!-- speed: peers -->\nkept\n<!-- /speed -->\n"
    assert pages.filled(text, {"bars": ["new", "lines"]}) == text.replace("old", "new\nlines")


def test_the_readme_files_have_what_the_committed_results_say() -> None:
    """After a run that is meant: `python -m benchmarks.report`."""
    sections = pages.sections_of(SERVING)
    for page in pages.PAGES:
        text = page.read_text(encoding="utf-8")
        assert pages.filled(text, sections) == text
        assert "<!-- speed: " in text


def test_items_are_the_bytes_between_the_brackets() -> None:
    assert items_of(b'{"degraded":[],"items":[{"item_id":"1","score":0.5}],"x":[]}') == b'[{"item_id":"1","score":0.5}]'
    with pytest.raises(CommandError, match="without items"):
        items_of(b'{"error":{}}')


def test_every_environment_of_a_peer_is_pinned_to_the_versions_that_the_service_runs() -> None:
    pins = {path.stem: dict(_pins(path)) for path in REQUIREMENTS.glob("*.txt")}
    assert {peer.environment for peer in (*PEERS, *ECHOES)} == set(pins)
    ours = dict(_pins(ROOT / "locks" / "serve-cpu.txt"))
    for name, found in pins.items():
        for package in ("numpy", "onnxruntime", "redis", "orjson"):
            assert found[package] == ours[package], f"{name}: {package}"


def _pins(path: Path) -> list[tuple[str, str]]:
    lines = [line.split(" ")[0] for line in path.read_text().splitlines() if line[:1].isalpha()]
    assert all("==" in line for line in lines), path
    return [(line.split("==")[0], line.split("==")[1]) for line in lines]


def test_memory_is_compared_after_the_caches_have_filled() -> None:
    samples = [(step * 1_000, size) for step, size in enumerate((100.0, 150, 160, 161, 161, 161, 162, 164, 164), 1)]
    found = grown(samples)
    assert (found["third_quarter_mib"], found["last_quarter_mib"]) == (161.0, 164.0)
    assert found["grown_percent"] == pytest.approx(100 * 3 / 161)


def test_stages_are_read_from_server_timing() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer-Timing: store;dur=0.6, total;dur=2.9\r\nx-model: a"
    assert timings(head) == {"store": 0.6, "total": 2.9}
    assert timings(b"HTTP/1.1 200 OK") == {}
