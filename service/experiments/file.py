"""From the bytes of an experiment file, YAML or JSON, to plain data; hostile files are refused.

A problem is reported with its line. Lines are looked up only if there is a problem.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import yaml

from contract.experiments.history import ExperimentFile, experiment_file
from contract.experiments.parse import MAX_FILE_BYTES
from contract.experiments.problems import ExperimentsError, Place, Problem
from contract.experiments.served import unserved

MAX_NESTING: Final = 16

# libyaml if it is installed: a file at the limit then blocks the interpreter for a fraction of the time.
_Base: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Any: one of two classes, by build


def parse_file(content: bytes) -> object:
    """Return the plain data of a file; JSON is read as JSON, all else as YAML.

    Raises:
        ExperimentsError: too large, not text, malformed, nested too deeply, or with a key given twice.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ExperimentsError([f"larger than {MAX_FILE_BYTES} bytes"])
    try:
        text = content.decode("utf-8-sig")  # some editors write a byte order mark
        if text.lstrip().startswith("{"):
            return json.loads(text, object_pairs_hook=_distinct_keys)
        _check_shape(text)
        return yaml.load(text, Loader=_Loader)  # a safe loader, made stricter below
    except yaml.MarkedYAMLError as error:
        raise ExperimentsError([f"line {_line(error.problem_mark)}: {error.problem}"]) from error
    except json.JSONDecodeError as error:
        raise ExperimentsError([f"line {error.lineno}: {error.msg}"]) from error
    except ExperimentsError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # no UTF-8, no such date, a number of 5,000 digits
        raise ExperimentsError([f"neither YAML nor JSON in UTF-8 ({type(error).__name__})"]) from error


def read_experiments(content: bytes) -> ExperimentFile:
    """Return a file that has the right format and that the service fully supports.

    Raises:
        ExperimentsError: it does not; each problem names its line and field.
    """
    document = parse_file(content)
    try:
        file = experiment_file(document)
    except ExperimentsError as error:
        raise ExperimentsError(with_lines(content, error.found)) from error
    problems = unserved(file.config)
    if problems:
        raise ExperimentsError(with_lines(content, problems))
    return file


def with_lines(content: bytes, problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with the line of each in front, if the file has the place."""
    root = _nodes(content)
    return [
        Problem(f"line {_line_of(root, problem.place)}: {problem.text}", problem.place)
        if root is not None and problem.place
        else problem
        for problem in problems
    ]


def _nodes(content: bytes) -> Any:  # Any: a node of PyYAML, which has no types
    """Return the nodes of a file that `parse_file` has accepted; YAML reads most JSON too."""
    with suppress(ValueError, yaml.YAMLError, RecursionError):
        return yaml.compose(content.decode("utf-8-sig"), Loader=_Base)
    return None


def _line_of(node: Any, place: Place) -> int:
    """Return the line of a place, or of the last thing on the way to it that the file has."""
    line = _line(node.start_mark)
    for part in place:
        pairs: Iterable[tuple[Any, Any]] = ()
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            pairs = [(node.value[part], node.value[part])]
        for key, value in pairs:
            node, line = value, _line(key.start_mark)
            break
        else:
            return line
    return line


class _Loader(_Base):  # type: ignore[misc]  # the base is chosen above
    """Safe loading, with a key that is given twice an error: otherwise the last one would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {str(key.value)[:64]} twice", key.start_mark)
            seen.add(name)
        return dict(super().construct_mapping(node, deep))


def _check_shape(text: str) -> None:
    """Refuse what makes a small file large or deep, before anything is built from it.

    Aliases may stand for each other ("billion laughs"), and libyaml builds nested nodes by recursion in C.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.AliasEvent):
            raise ExperimentsError([f"line {_line(event.start_mark)}: aliases are not allowed"])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_NESTING:
            raise ExperimentsError([f"line {_line(event.start_mark)}: nested deeper than {MAX_NESTING}"])


def _line(mark: Any) -> int:  # Any: libyaml's marks and PyYAML's are two types
    return mark.line + 1 if mark is not None else 0


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ExperimentsError([f"key {max(keys, key=keys.count)[:64]} twice"])
    return dict(pairs)
