"""YAML files with known keys (recipes, skeletons), checked on reading; wrong keys are explained."""

import contextlib
import difflib
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hrpose.errors import UserError
from hrpose.io import read_file

# What was found, shortened: aliases expand a small file to a huge value.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 100, 100

_MAX_BYTES = 10_000_000
# The time to parse nested lists grows with the square of their depth.
_MAX_DEPTH = 100


class Part(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


P = TypeVar("P", bound=Part)


def load_as(path: Path, overrides: Iterable[str], kind: type[P]) -> P:
    """Read a YAML file of this kind and apply `overrides` such as `optimizer.lr=5e-4`.

    Raises UserError with one line per fault; a misspelled key comes with a suggestion.
    """
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(
            f"{path}: expected a mapping of keys, found {type(document).__name__}",
            code="recipe-invalid",
        )
    return checked(document, overrides, kind, path)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file, bounded in size and depth. Raises UserError."""
    content = read_file(path, _MAX_BYTES)
    try:
        text = content.decode("utf-8-sig")
        depth = 0
        for bracket in re.findall(r"[\[\]{}]", text):
            depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
            if depth > _MAX_DEPTH:
                raise UserError(
                    f"{path}: expected YAML with lists at most {_MAX_DEPTH} deep, found deeper",
                    code="recipe-invalid",
                )
        return yaml.safe_load(text)
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of 2026-13-01
        first = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected YAML, found: {first[:300]}", code="recipe-invalid"
        ) from error


def checked(document: dict[str, Any], overrides: Iterable[str], kind: type[P], where: object) -> P:
    """As `load_as`, for a document that was read already; errors name `where`."""
    for override in overrides:
        _override(document, override)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        lines = [_explain(fault, kind) for fault in error.errors()]
        raise UserError(
            "\n".join(f"{where}: {line}" for line in lines), code="recipe-invalid"
        ) from error


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(
            f"--set {override}: expected KEY=VALUE, such as optimizer.lr=5e-4",
            code="option-invalid",
        )
    *parents, last = key.split(".")
    node = document
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(
                f"--set {override}: '{parent}' is a value and has no keys of its own",
                code="option-invalid",
            )
        node = child
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"--set {override}: expected a YAML value, found '{text}'", code="option-invalid"
        ) from error
    # YAML 1.1 reads 5e-4 as text, because it has no dot.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    node[last] = value


def _explain(fault: Any, kind: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        message = str(fault["msg"]).removeprefix("Value error, ")
        found = "" if isinstance(fault["input"], dict) else f", found {_SHORT.repr(fault['input'])}"
        return f"{location}: {message}{found}" if location else f"{message}{found}"
    *parents, key = fault["loc"]
    known = _keys_at(parents, kind)
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(sorted(known))}"
    return f"unknown key '{location}'; {hint}"


def _keys_at(parents: list[Any], model: type[BaseModel]) -> list[str]:
    for parent in parents:
        model = model.model_fields[str(parent)].annotation  # type: ignore[assignment]
    return list(model.model_fields)
