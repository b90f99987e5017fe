"""The one door for YAML files: those of ``conf/``, the ``data.yaml`` of a data set, the ``config.yaml`` of a run."""

from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any

import yaml

from mbvision.errors import AnnotationError
from mbvision.files import read_bytes

MAX_YAML_BYTES = 1024 * 1024
_MAX_DEPTH = 20


def read_mapping(path: Path, *, what: str, texts: Collection[str] = ()) -> dict[str, Any]:
    """The mapping in a file of plain data; ``what`` says in messages which file it is.

    The values in lists and mappings below the keys ``texts``, wherever they are, stay the text that the file has: YAML
    1.1 takes a class ``no`` for false, and others for dates, numbers and nothing.

    Raises ``AnnotationError`` for anything else, for references (a few of them unfold to terabytes), for a key given
    twice, and for deep nesting.
    """
    try:
        text = read_bytes(path, what=what, max_bytes=MAX_YAML_BYTES).decode("utf-8-sig")
        _check_events(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_keys(path, node)
        _keep_texts(node, texts)
        document = yaml.SafeLoader("").construct_document(node) if node is not None else None
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: not UTF-8 text: byte {error.start} is no character; save it as UTF-8"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        remedy = "; indent with spaces, not tabs" if "'\\t'" in str(error) else ""
        raise AnnotationError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}{remedy}") from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise AnnotationError(f"{path}: must be a mapping of names, as a {what} is")
    return document


def _keep_texts(node: yaml.Node | None, keys: Collection[str], *, below: bool = False) -> None:
    """Mark the plain values in lists and mappings below these keys as text."""
    if isinstance(node, yaml.ScalarNode) and below:
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _keep_texts(child, keys, below=below)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            named = isinstance(key, yaml.ScalarNode) and key.value in keys and not isinstance(value, yaml.ScalarNode)
            _keep_texts(value, keys, below=below or named)


def write_mapping(content: dict[str, Any]) -> str:
    """The text of plain data, without references, so that ``read_mapping`` takes it."""
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Writes each list out, however often it is there."""
        return True


def _check_events(path: Path, text: str) -> None:
    """Stops at the first reference or deep nesting: the parser's time grows with the square of the depth."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise AnnotationError(f"{path}: holds a reference (*name), which is refused; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise AnnotationError(f"{path}: nested more than {_MAX_DEPTH} deep, which no such file needs")


def _check_keys(path: Path, node: yaml.Node | None) -> None:
    """Of a key given twice the parser would keep the last without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen and name is not None:
                raise AnnotationError(f"{path}: has the key {name[1][:40]!r} twice; remove one")
            seen.add(name)
            _check_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check_keys(path, child)
