"""YAML files with known keys (recipes, skeletons), checked on reading; wrong keys are explained.

What a file costs is bounded before it is built: `<<` and aliases make gigabytes of a few lines.
"""

import contextlib
import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hrpose.errors import UserError
from hrpose.io import read_file

# What was found, shortened: aliases expand a small file to a huge value.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 100, 100

# Bounds far above what recipes and skeletons need: each value counts as often as aliases repeat it.
_MAX_BYTES = 1_000_000
_MAX_VALUES = 20_000
_MAX_DEPTH = 50
_MAX_DIGITS = 100


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
            f"{path}: expected a mapping of keys, found "
            f"{'nothing' if document is None else type(document).__name__}",
            code="recipe-invalid",
        )
    return checked(document, overrides, kind, path)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file of bounded size. Raises UserError."""
    content = read_file(path, _MAX_BYTES)
    try:
        return _values(content.decode("utf-8-sig"))
    except _DAMAGE as error:
        first = " ".join(str(error).split())
        raise UserError(
            f"{path}: expected YAML, found: {first[:300]}", code="recipe-invalid"
        ) from error


# OverflowError, ValueError: of 2026-13-01, and of numbers beyond any.
_DAMAGE = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, where possible in C, for numbers of bounded length."""


def _number(loader: Any, node: yaml.ScalarNode) -> int | float:
    if len(node.value) > _MAX_DIGITS:
        raise _refused(node.start_mark, f"a number of {len(node.value)} characters", _MAX_DIGITS)
    is_int = node.tag.endswith(":int")
    made = loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)
    return made  # type: ignore[no-any-return]


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _values(text: str) -> Any:
    """The plain values that YAML stands for. Raises one of `_DAMAGE`."""
    _check_bounds(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_bounds(text: str) -> None:
    """Raises YAMLError where the values are too many, with all aliases followed, or too deep."""
    total = 0
    begun: list[tuple[str | None, int]] = []  # lists and mappings: the anchor, the values before
    sizes: dict[str, int] = {}  # values behind each anchor
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _refused(event.start_mark, f"the alias *{event.anchor} of what is not above")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                begun.append((event.anchor, total))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
            total += 1
        if len(begun) > _MAX_DEPTH:
            raise _refused(event.start_mark, "deeper lists or mappings", _MAX_DEPTH)
        if total > _MAX_VALUES:
            raise _refused(event.start_mark, "more values, aliases counted as often", _MAX_VALUES)


def _check_keys(root: yaml.Node) -> None:
    """Raises YAMLError where a mapping has a key twice: PyYAML takes the last one."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                waiting += (key, value)
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in keys:
                        raise _refused(key.start_mark, f"the key '{key.value[:100]}' again")
                    keys.add((key.tag, key.value))


def _refused(mark: Any, found: str, most: int | None = None) -> yaml.YAMLError:
    """The error for what begins at PyYAML's `mark`."""
    bound = "" if most is None else f"; expected at most {most:,}"
    return yaml.YAMLError(f"in line {mark.line + 1} {found}{bound}")


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
        value = _values(text)
    except _DAMAGE as error:
        raise UserError(
            f"--set {override[:100]}: expected a YAML value, found: "
            f"{' '.join(str(error).split())[:200]}",
            code="option-invalid",
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


def _keys_at(parents: list[Any], kind: Any) -> list[str]:
    for parent in parents:
        # Below a mapping of names, every name has the same keys.
        of_names = get_origin(kind) is dict
        kind = get_args(kind)[1] if of_names else kind.model_fields[str(parent)].annotation
        if isinstance(kind, UnionType):
            # A part that may be left out: `Part | None`.
            kind = next(each for each in get_args(kind) if each is not NoneType)
    return list(kind.model_fields)
