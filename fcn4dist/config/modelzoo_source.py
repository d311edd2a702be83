"""Read a config of ModelZoo's FCN-4: `default_config.yaml`, or the older `config.py`. Nothing of it is ever executed.

The YAML has one to three documents: the config, help texts, allowed choices; only the first says anything about a run. The
Python file assigns dictionaries (`edict({...})`, `dict(...)`, `{...}`) or single keys (`cfg.lr = 0.0005`) of literals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fcn4dist.errors import ConfigError, quoted

MAX_BYTES = 1 << 20  # a config has two thousand
MAX_DOCUMENTS = 3
NO_TEXT = "a key that is no text"
MAX_BITS = 1024  # of a number; Python itself writes none of more than 4300 digits, but reads one that is not decimal
DICTIONARIES = {"edict", "EasyDict", "easydict.EasyDict", "dict"}

NOT_LITERAL = "computed, and config.py is read, not executed: set it yourself"

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Entry:
    """One key of the file."""

    key: str
    value: Scalar | list[Scalar]
    line: int
    obstacle: str = ""  # why there is no value: "nested values", or NOT_LITERAL


@dataclass(frozen=True)
class Source:
    """The keys of a file; of one that is given twice, the last."""

    file: Path
    entries: dict[str, Entry]
    repeated: list[str]  # keys given twice with different values

    def place(self, key: str) -> str:
        """Return "file:line: key" for messages."""
        return f"{self.file}:{self.entries[key].line}: {key}"


def load_source(file: Path) -> Source:
    """Read the keys of `file`; a name that ends in .py is Python, any other YAML.

    Raises ConfigError when it cannot be read or parsed, or holds no key.
    """
    text = _read(file)
    entries: dict[str, Entry] = {}
    repeated = []
    for entry in _iter_python(file, text) if file.suffix == ".py" else _iter_yaml(file, text):
        values = entry.value if isinstance(entry.value, list) else [entry.value]
        if any(isinstance(value, int) and value.bit_length() > MAX_BITS for value in values):
            raise ConfigError(f"{file}:{entry.line}: {quoted(entry.key)}: a number of too many digits")
        before = entries.get(entry.key)
        if before is not None and before.value != entry.value:
            repeated.append(entry.key)
        entries[entry.key] = entry
    if not entries:
        raise ConfigError(f"{file}: no key found; expected a default_config.yaml or config.py of ModelZoo's FCN-4")
    return Source(file, entries, repeated)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{quoted(str(file))}: cannot read the config: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file}: more than {MAX_BYTES} bytes; expected a config")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text: {error.reason}") from None


def _iter_yaml(file: Path, text: str) -> Iterator[Entry]:
    """Yield the keys of the first document; the others must only be there for their number."""
    try:
        loader = yaml.SafeLoader(text)
        documents: list[yaml.Node] = []
        while loader.check_node() and (node := loader.get_node()) is not None:
            documents.append(node)
        if len(documents) > MAX_DOCUMENTS:
            raise ConfigError(
                f"{file}: {len(documents)} YAML documents; ModelZoo has at most {MAX_DOCUMENTS}: config, help, choices"
            )
        for number, document in enumerate(documents, 1):
            is_empty = isinstance(document, yaml.ScalarNode) and document.value in ("", "null", "~")
            if not isinstance(document, yaml.MappingNode) and not (is_empty and number > 1):
                raise ConfigError(f"{file}: YAML document {number}: expected keys such as 'lr: 0.0005'")
        for key, value in documents[0].value if documents else []:
            yield _yaml_entry(loader, key, value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from None
    except ConfigError:
        raise
    except Exception as error:  # nested too deep, 2021-02-31, an endless number, !!bool x: PyYAML raises anything
        raise ConfigError(f"{file}: cannot be read as a config: {type(error).__name__}: {error}") from None


def _yaml_entry(loader: yaml.SafeLoader, key: yaml.Node, value: yaml.Node) -> Entry:
    name = str(key.value) if isinstance(key, yaml.ScalarNode) else NO_TEXT
    line = key.start_mark.line + 1
    if isinstance(value, yaml.ScalarNode):
        return Entry(name, _plain(loader.construct_object(value)), line)
    if isinstance(value, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in value.value):
        return Entry(name, [_plain(loader.construct_object(item)) for item in value.value], line)
    return Entry(name, None, line, "nested values")


def _iter_python(file: Path, text: str) -> Iterator[Entry]:
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"{file}{f':{line}' if line else ''}: not a Python file: {getattr(error, 'msg', error)}"
        ) from None
    for statement in module.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            yield from _iter_assignment(statement.targets[0], statement.value)


def _iter_assignment(target: ast.expr, value: ast.expr) -> Iterator[Entry]:
    """Yield what `config = edict({...})`, `config.lr = 0.0005` or `config['lr'] = 0.0005` says."""
    if isinstance(target, ast.Attribute):
        yield _literal_entry(target.attr, value)
    elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        yield _literal_entry(target.slice.value, value)
    elif isinstance(target, ast.Name):
        dictionary: ast.expr | None = value
        if isinstance(value, ast.Call) and _dotted(value.func) in DICTIONARIES:
            for keyword in value.keywords:
                if keyword.arg is not None:
                    yield _literal_entry(keyword.arg, keyword.value)
            dictionary = value.args[0] if value.args else None
        if isinstance(dictionary, ast.Dict):
            for key, item in zip(dictionary.keys, dictionary.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield _literal_entry(key.value, item)


def _dotted(function: ast.expr) -> str:
    """Return the name of what is called: "edict", "easydict.EasyDict"; "" for what has none."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def _literal_entry(name: object, node: ast.expr) -> Entry:
    key = name if isinstance(name, str) else NO_TEXT
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Entry(key, None, node.lineno, NOT_LITERAL)
    if isinstance(value, (list, tuple)) and all(isinstance(item, (bool, int, float, str)) for item in value):
        return Entry(key, list(value), node.lineno)
    if isinstance(value, (bool, int, float, str)) or value is None:
        return Entry(key, value, node.lineno)
    return Entry(key, None, node.lineno, "nested values")


def _plain(value: object) -> Scalar:
    """Dates and the like count as the text that they were."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
