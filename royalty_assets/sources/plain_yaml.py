"""YAML as people write contracts: every value is the text that stands there.

YAML by itself reads ``NO`` (Norway) as false, ``0123`` as 83 and ``33.10`` as a float. Here the
record's model decides what a text is. A key that stands twice is told with both its lines: YAML
would let the last one count, and lose the other. What the keys mean belongs to the reader of the
file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_NODES_MAX = 2_000_000
"""Aliases can make a few lines unfold into more than any memory holds."""
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class PlainYamlError(Exception):
    """A file that is no YAML, or not of one mapping; the message says where."""


@dataclass(frozen=True, slots=True)
class RepeatedKey:
    """A key that stands more than once in one mapping.

    Attributes:
        path: keys and positions (from 0) from the top to the mapping.
        key: the key.
        lines: where it stands, from 1.
    """

    path: tuple[str | int, ...]
    key: str
    lines: tuple[int, ...]


class _TextLoader(yaml.SafeLoader):
    """Mappings, lists, texts and nothing else; an empty value and ``null`` are nothing."""


_TextLoader.yaml_implicit_resolvers = {
    first: [each for each in known if each[0] in {_NULL, _MERGE}]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TextLoader.yaml_constructors = {
    kind: yaml.SafeLoader.yaml_constructors[kind]
    for kind in (None, _NULL, *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")))
}


def read_plain_yaml(content: bytes) -> tuple[Mapping[str, Any], list[RepeatedKey]]:
    """The one mapping that a file is, and its repeated keys.

    Raises:
        PlainYamlError: if it is no UTF-8, no YAML, or something else than a mapping.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PlainYamlError(f"line {line} is not UTF-8 text; save the file as UTF-8") from None
    try:
        loader = _TextLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, []
        if _unfolded_size(node, {}) > _NODES_MAX:
            raise PlainYamlError("its aliases unfold into more than two million values")
        repeated = list(_repeated_keys(node, ()))
        read = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise PlainYamlError(f"it is not valid YAML: {_in_one_line(error)}") from None
    except RecursionError:
        raise PlainYamlError("it is nested too deeply, or in itself") from None
    if not isinstance(read, Mapping):
        raise PlainYamlError("it is not a mapping; it is to begin with a name and a colon")
    return read, repeated


def _in_one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _unfolded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are when each alias is what it stands for.

    Raises:
        RecursionError: if a node is in itself.
    """
    if id(node) not in known:
        size = 1 + sum(_unfolded_size(child, known) for child in _children(node))
        known[id(node)] = size
    return known[id(node)]


def _repeated_keys(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[RepeatedKey]:
    if isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield from _repeated_keys(item, (*path, at))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, list[int]] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            lines.setdefault(name, []).append(key.start_mark.line + 1)
            yield from _repeated_keys(value, (*path, name))
        for name, places in lines.items():
            if len(places) > 1 and name != "<<":
                yield RepeatedKey(path, name, tuple(places))
