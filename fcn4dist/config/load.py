"""Configs from files and options, and what is said where one is wrong.

Precedence, lowest first: the defaults, the YAML file, `--set section.key=value`, the command's own options. A key that does not
exist is an error with a suggestion.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fcn4dist.config.keys import find_key, suggest
from fcn4dist.config.schema import RunConfig
from fcn4dist.errors import ConfigError

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxstring = 3, 12, 200  # nine lists of nine aliases each are a billion texts


def load_config(file: Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Load the YAML `file` (none: defaults only) and apply `overrides` such as "train.lr=0.001".

    Raises ConfigError with the place, what was found and what was expected.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values = _load_yaml(file)
    origin = {}  # "section.key" -> where its value was given, for messages
    for override in overrides:
        key, value = parse_override(override)
        section, name = key
        if not isinstance(values.setdefault(section, {}), dict):
            raise ConfigError(f"{file}: {section}: expected a section of keys, found {_show(values[section])}")
        values[section][name] = value
        origin[f"{section}.{name}"] = f"--set {override}"
    return build_config(values, where=str(file) if file else "--set" if origin else "config", origin=origin)


def override_config(config: RunConfig, **sections: Mapping[str, Any]) -> RunConfig:
    """Return a copy of `config` with some keys replaced: `override_config(c, train={"seed": 2})`.

    Keys that nobody set stay unset (`model_fields_set`), so that the demo's own values can still go under the user's.
    """
    values = config.model_dump(exclude_unset=True)
    for section, changes in sections.items():
        values.setdefault(section, {}).update(changes)
    return build_config(values, where="options")


def build_config(values: Mapping[str, Any], where: str, origin: Mapping[str, str] | None = None) -> RunConfig:
    """Check `values` and return the config; `where` and `origin` name the source in messages."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, where, origin or {}))) from None


def parse_override(text: str) -> tuple[tuple[str, str], Any]:
    """Parse "section.key=value"; the value is YAML, so 1e-3, true, [1, 2] and text all work."""
    key, equals, raw = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        meant = find_key(key.strip())
        hint = f"; did you mean {meant}?" if meant else ", for example train.lr=0.001"
        raise ConfigError(f"--set {text}: expected section.key=value{hint}")
    try:
        value = yaml.safe_load(raw)
    except Exception as error:  # PyYAML itself raises anything: for !!bool x, 2021-02-31, a thousand brackets
        raise ConfigError(f"--set {text}: the value is not YAML: {_reason(error)}") from None
    return (section, name), _number(value)


def format_config(config: RunConfig) -> str:
    """Return the config as YAML, every key included; `load_config` reads it back."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _load_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the config: {error.strerror}") from None
    except Exception as error:  # as in parse_override
        is_modelzoo = file.suffix == ".py" or "expected a single document" in str(error)
        hint = f"\n(ModelZoo's? fcn4dist config import-modelzoo {file} makes it ours)" if is_modelzoo else ""
        raise ConfigError(f"{file}: not a YAML file: {_reason(error)}{hint}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected sections such as 'train:', found {type(values).__name__}")
    return {
        section: {k: _number(v) for k, v in keys.items()} if isinstance(keys, dict) else ({} if keys is None else keys)
        for section, keys in values.items()
    }


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; everybody means the number."""
    if isinstance(value, str):
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value


def _explain(error: ValidationError, where: str, origin: Mapping[str, str]) -> list[str]:
    lines = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            inside = item["input"] if len(path) == 1 and isinstance(item["input"], dict) else {}
            for own in [[*path, str(key)] for key in inside] or [path]:  # the keys of a section that does not exist
                lines.append(f"{_place(own, where, origin)}unknown key{suggest(own)}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found = "" if item["type"] == "value_error" else f", found {_show(item['input'])}"
            lines.append(f"{_place(path, where, origin)}{message[0].lower()}{message[1:]}{found}")
    return list(dict.fromkeys(lines))


def _show(value: Any) -> str:
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits, but reads one that is not decimal
        return "a number of too many digits"


def _reason(error: Exception) -> str:
    """Return what PyYAML says; where it is no error of its own, with the name of it."""
    return str(error) if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)) else f"{type(error).__name__}: {error}"


def _place(path: list[str], where: str, origin: Mapping[str, str]) -> str:
    """Return where a key was given and its name, for the beginning of a line."""
    return f"{origin.get('.'.join(path[:2]), where)}: {'.'.join(path)}: " if path else f"{where}: "
