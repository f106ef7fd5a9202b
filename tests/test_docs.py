"""The documents describe the settings, metrics, errors and routes of the code."""

from __future__ import annotations

import http.client
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from analysis.sink import settings as sink_settings
from analysis.sink.events import KINDS
from analysis.sink.metrics import Metrics as SinkMetrics
from analysis.sink.reports import FAMILIES
from benchmarks.tables.page import refreshed
from contract.events.activity import REQUIRED
from service import __version__, errors
from service.errors import RankerError
from service.http.api import openapi_json
from service.metrics import Metrics
from service.settings.environment import secret_variables, variables
from service.settings.root import Settings
from service.settings.shown import effective, env_example

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
SINK = (ROOT / "docs" / "sink.md").read_text(encoding="utf-8")
HTTP_API = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, up to the next one of its level."""
    level = heading.split()[0]
    section = re.split(rf"^{level} ", text.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_every_setting_is_documented_with_its_default_and_nothing_else_is() -> None:
    defaults = effective(Settings.model_construct())
    expected = {
        f"`{name}`": (f"`{defaults[name]}`" if defaults[name] else "", field.description) for name, field in variables()
    }
    documented = {}
    for line in OPERATIONS.splitlines():
        match = re.fullmatch(r"\| (`RANKER_\w+`) \| (.*?) ?\| (.*) \|", line)
        if match:
            documented[match[1]] = (match[2], match[3])
    assert documented == expected


def test_the_example_of_an_environment_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example() + "\n"


def test_every_variable_that_a_file_of_the_deployment_sets_exists() -> None:
    known = {name for name, _ in variables()} | set(
        map(sink_settings.variable, sink_settings.SinkSettings.model_fields)
    )
    known |= {f"{name}_FILE" for name in (*secret_variables(), sink_settings.variable("url"))}
    files = [*ROOT.glob("docker-compose*.yml"), *(ROOT / "deploy").rglob("*.py"), ROOT / "README.md"]
    named = {name for file in files for name in re.findall(r"\bRANKER_[A-Z]+__[A-Z_]+\b", file.read_text())}
    assert named - known == set()


def test_every_metric_is_documented_with_its_type_and_labels_and_nothing_else_is() -> None:
    expected = {one.name: (one.kind, set(one.labels)) for one in Metrics().descriptions}
    documented = {
        cells[0].strip("`"): (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
        for cells in rows(OPERATIONS, "## Metrics")[1:]
    }
    assert documented == expected


def test_every_setting_of_the_sink_is_documented_with_its_default() -> None:
    expected = []
    for name, field in sink_settings.SinkSettings.model_fields.items():
        default = sink_settings.shown(field.default)
        expected.append(
            f"| `{sink_settings.variable(name)}` | {f'`{default}`' if default else ''} | {field.description} |"
        )
    assert re.findall(r"^\| `RANKER_SINK__.*", SINK, re.M) == expected


def test_every_metric_of_the_sink_is_documented_with_its_type_and_labels() -> None:
    expected = {}
    for family in SinkMetrics([kind.table for kind in KINDS]).registry.collect():
        samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        if family.name.startswith("ranker_") and samples:
            expected[samples[0].name] = (family.type, set(samples[0].labels), family.documentation)
    documented = {
        cells[0].strip("`"): (cells[1], set(re.findall(r"`(\w+)`", cells[2])), cells[3])
        for cells in rows(SINK.replace("### Reports", "## Reports"), "## Metrics")[1:]
    }
    assert documented == expected
    assert len(expected) == 10


def test_every_gauge_of_a_report_is_documented_with_its_labels() -> None:
    expected = {name: ("gauge", labels, text) for name, (text, labels) in FAMILIES.items()}
    documented = {
        cells[0].strip("`"): (cells[1], tuple(re.findall(r"`(\w+)`", cells[2])), cells[-1].strip("| "))
        for cells in rows(SINK, "### Reports")[1:]
    }
    assert documented == expected


def test_every_stream_of_the_sink_is_documented_with_its_table() -> None:
    documented = {
        (cells[0].strip("`"), cells[1].strip("`"), cells[2].strip("`")) for cells in rows(SINK, "## Files")[1:]
    }
    assert documented == {(kind.table, kind.stream, kind.clock) for kind in KINDS}


def test_every_error_is_documented_with_its_status_and_nothing_else_is() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RankerError)]
    expected = {(f"`{kind.code}`", str(kind.status)) for kind in kinds if kind is not RankerError}
    assert {(cells[0], cells[1]) for cells in rows(HTTP_API, "## Errors")[1:]} == expected


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(openapi_json())
    return document


def test_every_route_is_documented(openapi: dict[str, Any]) -> None:
    served = {f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods}
    table = HTTP_API.split("| Route | Does |")[1].split("\n\n")[0]
    documented = set(re.findall(r"`((?:GET|POST) [^`]+)`", table))
    assert documented - served == {"GET /docs", "GET /openapi.json", "GET /", "GET /debug/slow"}
    assert served <= documented


def test_openapi_equals_the_committed_file() -> None:
    """`python -m service --openapi > docs/openapi.json` after a change that is meant."""
    assert (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8") == openapi_json() + "\n"


def test_openapi_does_not_depend_on_the_words_of_a_python_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 has other phrases than 3.11 for two statuses."""
    monkeypatch.setattr(http.client, "responses", dict.fromkeys(http.client.responses, "other words"))
    assert "other words" not in openapi_json()


def test_openapi_refers_to_nothing_that_is_not_there(openapi: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(openapi)))
    assert named <= set(openapi["components"]["schemas"])


def test_every_answer_of_openapi_names_the_bucket(openapi: dict[str, Any]) -> None:
    for methods in openapi["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                assert {"X-Request-Id", "X-AB-Bucket", "X-AB-Config"} <= set(response["headers"])


def test_every_field_of_a_ranking_is_documented(openapi: dict[str, Any]) -> None:
    documented = {cells[0].strip("`") for cells in rows(HTTP_API, "## POST /rank")}
    assert set(openapi["components"]["schemas"]["RankRequest"]["properties"]) <= documented


def test_the_fields_that_each_type_of_activity_requires_are_documented() -> None:
    documented = {
        kind: cells[1].replace("`", "") if len(cells) > 1 else ""
        for cells in rows(CONTRACT, "### Types of activity")[1:]
        for kind in re.findall(r"`(\w+)`", cells[0])
    }
    assert documented == {kind: ", ".join(map(" or ".join, fields)) for kind, fields in REQUIRED.items()}


def test_the_version_is_the_projects() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_our_figures_on_the_page_of_results_are_those_of_the_runs() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page.count("<!-- ours:") == 6
    assert refreshed(page, ROOT / "benchmarks" / "results") == page


def decisions() -> dict[str, Path]:
    return {path.name[:4]: path for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))}


def statuses() -> dict[str, str]:
    """References of later decisions to earlier ones: "Supersedes 0031", "Supersedes one sentence of 0002"."""
    found = dict.fromkeys(decisions(), "accepted")
    for number, path in decisions().items():
        for words in re.findall(r"[Ss]upersedes ([^.:]+)", path.read_text(encoding="utf-8")):
            for earlier in re.findall(r"(?<![0-9-])[0-9]{4}(?![0-9-])", words):
                in_part = "sentence" in words or "part" in words
                found[earlier] = f"superseded{' in part' if in_part else ''} by {number}"
    return found


def title(path: Path) -> str:
    """The heading of a decision without its number: "# 0135 One lock", "# 0152: Metrics"."""
    return re.sub(r"^# [0-9]{4}\W+", "", path.read_text(encoding="utf-8").splitlines()[0])


def test_the_index_of_decisions_names_each_with_its_status() -> None:
    status = statuses()
    expected = [
        f"| [{number}]({path.name}) | {title(path)} | {status[number]} |" for number, path in decisions().items()
    ]
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if line.startswith("| [")] == expected
