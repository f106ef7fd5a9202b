"""From the bytes of a file that an operator writes, YAML or JSON, to plain data; hostile files are refused.

A problem is reported with its line. Lines are looked up only if there is a problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import yaml

MAX_NESTING: Final = 16
_TWICE: Final = "a key is given twice"
_NAMED: Final = re.compile(r"(alias|anchor|tag)\b.*", re.DOTALL)  # what follows is text of the file

# libyaml if it is installed: a file at the limit then blocks the interpreter for a fraction of the time.
_Base: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Any: one of two classes, by build


class OperatorFileError(ValueError):
    """The file cannot be read as data; the message has the reason and the line.

    It has no text of the file: problems are logged, and a file may name users.
    """


class _RepeatedKeyError(Exception):
    """An object of a JSON file has a key twice."""


def parse(content: bytes, max_bytes: int) -> object:
    """Return the plain data of a file; JSON is read as JSON, all else as YAML.

    Raises:
        OperatorFileError: too large, not text, malformed, nested too deeply, or with a key given twice.
    """
    if len(content) > max_bytes:
        raise OperatorFileError(f"larger than {max_bytes} bytes")
    try:
        text = content.decode("utf-8-sig")  # some editors write a byte order mark
        if text.lstrip().startswith("{"):
            return json.loads(text, object_pairs_hook=_distinct_keys)
        return _from_yaml(text)
    except _RepeatedKeyError as error:
        raise OperatorFileError(_place_of_repeated_key(text)) from error
    except yaml.MarkedYAMLError as error:
        raise OperatorFileError(_explained(error)) from error
    except json.JSONDecodeError as error:
        raise OperatorFileError(f"line {error.lineno}: {error.msg}") from error
    except OperatorFileError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # no UTF-8, no such date, a number of 5,000 digits
        raise OperatorFileError(f"neither YAML nor JSON in UTF-8 ({type(error).__name__})") from error


def _from_yaml(text: str) -> object:
    _check_shape(text)
    return yaml.load(text, Loader=_Loader)  # a safe loader, made stricter below


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = _NAMED.sub(r"\1", error.problem or "")
    return f"line {_line(error.problem_mark)}: {problem}"


def _place_of_repeated_key(text: str) -> str:
    """Return where a JSON file has a key twice: the YAML reader knows the lines of most JSON files."""
    try:
        _from_yaml(text)
    except yaml.constructor.ConstructorError as error:
        return _explained(error)
    except (ValueError, yaml.YAMLError, RecursionError):
        pass
    return _TWICE


class Lines:
    """The lines of the values of a file that `parse` has accepted; YAML reads most JSON too.

    Args:
        content: of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._root: Any = None  # Any: a node of PyYAML, which has no types
        with suppress(ValueError, yaml.YAMLError, RecursionError):
            self._root = yaml.compose(content.decode("utf-8-sig"), Loader=_Base)

    def of(self, place: Sequence[str | int]) -> int | None:
        """Return the line of a place, or of the last thing on the way to it that the file has; None if unknown."""
        node = self._root
        if node is None:
            return None
        line = _line(node.start_mark)
        for part in place:
            found = _step(node, part)
            if found is None:
                return line
            key, node = found
            line = _line(key.start_mark)
        return line


def _step(node: Any, part: str | int) -> tuple[Any, Any] | None:  # Any: nodes of PyYAML
    """Return the key and the value of one step into a node."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, yaml.MappingNode):
        pairs = [(key, value) for key, value in node.value if key.value == str(part)]
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        pairs = [(node.value[part], node.value[part])]
    return next(iter(pairs), None)


class _Loader(_Base):  # type: ignore[misc]  # the base is chosen above
    """Safe loading, with a key that is given twice an error: otherwise the last one would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, _TWICE, key.start_mark)
            seen.add(name)
        return dict(super().construct_mapping(node, deep))


def _check_shape(text: str) -> None:
    """Refuse what makes a small file large or deep, before anything is built from it.

    Aliases may stand for each other ("billion laughs"), and libyaml builds nested nodes by recursion in C.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.AliasEvent):
            raise OperatorFileError(f"line {_line(event.start_mark)}: aliases are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_NESTING:
            raise OperatorFileError(f"line {_line(event.start_mark)}: nested deeper than {MAX_NESTING}")


def _line(mark: Any) -> int:  # Any: libyaml's marks and PyYAML's are two types
    return mark.line + 1 if mark is not None else 0


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise _RepeatedKeyError
    return dict(pairs)
