"""Configurations of MMPose (Python) and of the official code (YAML): read, and told by rules.

Nothing of a Python file runs: its syntax tree is evaluated as far as it consists of values, names
and `dict(...)`, within bounds, and everything else is refused with its line.
"""

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.errors import UserError
from hrpose.io import read_file
from hrpose.models.networks import NETWORKS, HRNetSpec
from hrpose.weights.registry import RELEASED
from hrpose.yaml_file import read_yaml

Values = dict[str, Any]
"""Keys to numbers, texts, lists and further keys; tuples are lists."""
Leaves = Mapping[str, Any]
"""The same without depth: values by their path, such as `model.head.type`."""
Made = Callable[[Any, Leaves], Any]
"""What a value becomes, made of it and of all values."""

# Bounds far above what configurations need: a file's bytes, the values of a name with all that it
# refers to, the characters of a text, the size of a number, the files that inherit from each other.
_MAX_BYTES = 200_000
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000
_MAX_NUMBER = 1e15
_MAX_FILES = 30
_BASE = "_base_"
_WRONG = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class Unsupported(Exception):
    """Says why a value cannot be converted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What keys mean; keys are patterns such as `DEBUG.*`, of which the first that matches counts.

    `only`: values with the same meaning in hrpose, given or made of all keys, and what hrpose does
    instead of others, which are not supported. `becomes`: the key of the recipe, and what makes its
    value. `parts`: by key of the recipe, others that count for its value. `nothing`: by reason,
    keys without effect. `defaults`: what keys are where they are missing.
    """

    only: Mapping[str, tuple[Any, str]]
    becomes: Mapping[str, tuple[str, Made]]
    parts: Mapping[str, tuple[str, ...]]
    nothing: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def meaning(self, key: str, value: Any, leaves: Leaves, document: Values) -> tuple[str, str]:
        """The sort of a key ("mapped", "without", "not") and what it means.

        What it becomes is set in the `document` of a recipe.
        """

        def first(patterns: Mapping[str, Any]) -> Any:
            return next((patterns[each] for each in patterns if fnmatchcase(key, each)), None)

        becomes = None
        try:
            if (only := first(self.only)) is not None:
                allowed, instead = only
                if value not in (allowed(leaves) if callable(allowed) else allowed):
                    return "not", instead
            if (becomes := first(self.becomes)) is not None:
                to, made = becomes[0], becomes[1](value, leaves)
                *parents, last = to.split(".")
                node = document
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[last] = made
                return "mapped", f"{to}: {json.dumps(made, default=str)}"
        except Unsupported as error:
            return "not", str(error)
        except _WRONG:
            return "not", f"no value for {becomes[0] if becomes else 'what hrpose does'}"
        for to, patterns in self.parts.items():
            if first(dict.fromkeys(patterns, True)):
                return "mapped", f"part of {to}"
        if only is not None:
            return "without", "hrpose does the same"
        for reason, patterns in self.nothing.items():
            if first(dict.fromkeys(patterns, True)):
                return "without", reason
        return "not", "hrpose does not know this key"


def leaves_of(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Values by their path; those in lists by their type: `pipeline.RandomFlip.prob`."""
    under: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        under = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list) and all(isinstance(v, dict) and "type" in v for v in value):
        for each in value:
            kind = str(each["type"])
            again = sum(name.partition("#")[0] == kind for name, _ in under)
            rest = {key: inner for key, inner in each.items() if key != "type"}
            under.append((f"{kind}#{again + 1}" if again else kind, rest))
    if not under:
        yield at, value
    for name, each in under:
        yield from leaves_of(each, f"{at}.{name}" if at else name)


def read_config(path: Path, root: Path | None = None) -> Values:
    """The values of a configuration: `.yaml`, or `.py` with all that it inherits by `_base_`.

    Files that it inherits from have to be in the folder `root`: by default the outermost folder
    `configs` that `path` is in, else the folder of `path`. Raises UserError where a file cannot be
    read, is no configuration, or does more than name values.
    """
    if path.suffix in (".yaml", ".yml"):
        found = read_yaml(path)
        if not isinstance(found, dict):
            raise _invalid(f"{path}", "keys and values", f"{type(found).__name__}")
        try:
            return dict(json.loads(json.dumps(found, default=str, allow_nan=False)))
        except (TypeError, ValueError) as error:  # dates become texts
            raise _invalid(f"{path}", "texts as keys, and finite numbers", "others") from error
    if path.suffix != ".py":
        raise _invalid(f"{path}", "a file .py or .yaml", f"one {path.suffix or 'without a suffix'}")
    file = path.resolve()
    above = [folder for folder in file.parents if folder.name == "configs"]
    return _Reader((root or (above[-1] if above else file.parent)).resolve()).read(file, ())


class _Reader:
    """Reads files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = 0

    def read(self, path: Path, heirs: tuple[Path, ...]) -> Values:
        """The values of a file, from which the files `heirs` inherit, each from the next one."""
        self.files += 1
        if path in heirs or self.files > _MAX_FILES:
            found = "itself" if path in heirs else f"more than {_MAX_FILES} files"
            raise _invalid(f"{path}: {_BASE}", "other files to inherit from", found)
        content = read_file(path, _MAX_BYTES)
        try:
            body = ast.parse(content.decode("utf-8-sig")).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place, reason = f"{path}", str(error)
            if isinstance(error, SyntaxError) and error.lineno:
                place, reason = f"{path}, line {error.lineno}", error.msg
            reason = " ".join(reason.split())[:200] or "too much within each other"
            raise _invalid(place, "Python", reason) from error
        names: Values = {}
        base: Values = {}
        try:
            for statement in body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    continue  # a docstring
                if not (
                    isinstance(statement, ast.Assign)
                    and len(statement.targets) == 1
                    and isinstance(name := statement.targets[0], ast.Name)
                ):
                    raise _Refused(statement, "a statement that would have to run")
                value = _Evaluator(names, base).value(statement.value)
                _check_count(value, statement)
                if name.id == _BASE:
                    base = self._bases(value, path, heirs)
                else:
                    names[name.id] = value
            return _merged(base, names)
        except _Refused as refused:
            raise _invalid(
                f"{path}, line {refused.line}", "names, values and dict(...)", refused.found
            ) from refused
        except RecursionError as error:
            raise _invalid(f"{path}", "values", "too many within each other") from error

    def _bases(self, given: Any, path: Path, heirs: tuple[Path, ...]) -> Values:
        merged: Values = {}
        for name in given if isinstance(given, list) else [given]:
            if not isinstance(name, str):
                raise _invalid(f"{path}: {_BASE}", "names of files", repr(name)[:80])
            scope, scoped, rest = name.partition("::")
            base = ((self.root / rest) if scoped and scope else path.parent / name).resolve()
            if not base.is_relative_to(self.root):
                raise _invalid(
                    f"{path}: {_BASE}", f"files in {self.root}", f"{name}; name another --root"
                )
            values = self.read(base, (*heirs, path))
            if twice := merged.keys() & values.keys():
                raise _invalid(f"{path}: {_BASE}", "each key in one file", f"{min(twice)} again")
            merged |= values
        return merged


def _merged(base: Values, own: Values) -> Values:
    """As MMEngine inherits: keys of keys are merged unless they say `_delete_`, lists replaced."""
    merged = dict(base)
    for key, value in own.items():
        if isinstance(value, dict):
            keep = not value.get("_delete_", False)
            under = merged.get(key) if keep else None
            own_keys = {name: each for name, each in value.items() if name != "_delete_"}
            value = _merged(under if isinstance(under, dict) else {}, own_keys)
        merged[key] = value
    return merged


class _Refused(Exception):
    def __init__(self, node: ast.AST, found: str) -> None:
        super().__init__(found)
        self.line = getattr(node, "lineno", 0)
        self.found = found


class _Evaluator:
    """Values of expressions; `names` are those above, `base` those of the files above."""

    def __init__(self, names: Values, base: Values) -> None:
        self.names = names
        self.base = base

    def value(self, node: ast.expr) -> Any:
        kind = getattr(self, f"_{type(node).__name__.lower()}", None)
        if kind is None:
            raise _Refused(node, f"{type(node).__name__}, which would have to run")
        return kind(node)

    def _constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, str | int | float | None):
            raise _Refused(node, f"a value of the type {type(node.value).__name__}")
        if isinstance(node.value, str) and not node.value.isascii():
            try:
                node.value.encode()
            except UnicodeEncodeError as error:
                raise _Refused(node, "a text with a half of a character") from error
        return _bounded(node.value, node)

    def _list(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self.value(each) for each in node.elts]

    _tuple = _list

    def _dict(self, node: ast.Dict) -> Values:
        found: Values = {}
        for key, each in zip(node.keys, node.values, strict=True):
            if key is None:
                found |= self._keys(each)
                continue
            name = self.value(key)
            if not isinstance(name, str | int):
                raise _Refused(node, "a key that is no text")
            found[str(name)] = self.value(each)
        return found

    def _call(self, node: ast.Call) -> Values:
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict") or node.args:
            raise _Refused(node, f"a call of {ast.unparse(node.func)[:60]}")
        found: Values = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                found |= self._keys(keyword.value)
            else:
                found[keyword.arg] = self.value(keyword.value)
        return found

    def _keys(self, node: ast.expr) -> Values:
        value = self.value(node)
        if not isinstance(value, dict):
            raise _Refused(node, "** of what has no keys")
        return value

    def _name(self, node: ast.Name) -> Any:
        if node.id == _BASE:
            return self.base
        if node.id not in self.names:
            raise _Refused(node, f"the name {node.id}, which no line above sets")
        return self.names[node.id]

    def _set(self, node: ast.Set) -> Any:
        """MMEngine's {{_base_.name}}, which is a set of a set to Python."""
        inner = node.elts[0]
        if len(node.elts) != 1 or not isinstance(inner, ast.Set) or len(inner.elts) != 1:
            raise _Refused(node, "a set")
        return self.value(inner.elts[0])

    def _attribute(self, node: ast.Attribute) -> Any:
        return self._at(node, self.value(node.value), node.attr)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self._at(node, self.value(node.value), self.value(node.slice))

    def _at(self, node: ast.expr, value: Any, key: Any) -> Any:
        try:
            if isinstance(value, dict) or (isinstance(value, list) and isinstance(key, int)):
                return value[key]
        except (LookupError, TypeError):
            pass
        raise _Refused(node, f"{key!r} of what does not have it"[:80])

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if isinstance(node.op, ast.USub) and isinstance(value, int | float):
            return -value
        raise _Refused(node, "an operator other than a sign")

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        joined = isinstance(node.op, ast.Add) and type(left) is type(right) in (str, list)
        if type(node.op) not in _ARITHMETIC or not (numbers or joined):
            raise _Refused(node, "an operator other than + - * / of numbers and + of texts")
        try:
            return _bounded(_ARITHMETIC[type(node.op)](left, right), node)
        except (ZeroDivisionError, OverflowError) as error:
            raise _Refused(node, str(error)) from error

    def _joinedstr(self, node: ast.JoinedStr) -> str:
        text = ""
        for part in node.values:
            inner = part
            if isinstance(part, ast.FormattedValue):
                if part.conversion != -1 or part.format_spec is not None:
                    raise _Refused(node, "an f-string with a format")
                inner = part.value
            value = self.value(inner)
            if not isinstance(value, str | int | float):
                raise _Refused(node, "an f-string of more than texts and numbers")
            text = str(_bounded(text + str(value), node))
        return text


def _bounded(value: Any, node: ast.AST) -> Any:
    """The value, if it is not too large."""
    if isinstance(value, str | list) and len(value) > _MAX_TEXT:
        raise _Refused(node, f"more than {_MAX_TEXT:,} characters or entries")
    if isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
        raise _Refused(node, "a number beyond any use")
    return value


def _check_count(value: Any, node: ast.AST) -> None:
    """Names stand for all their values: ten lines of lists of the line above make billions."""
    for count, _ in enumerate(_each(value)):
        if count > _MAX_VALUES:
            raise _Refused(node, f"more than {_MAX_VALUES:,} values")


def _each(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _each(inner)


def _invalid(where: str, expected: str, found: str) -> UserError:
    return UserError(f"{where}: expected {expected}, found {found}", code="config-invalid")


# What values become.


def as_it_is(value: Any, _: Leaves) -> Any:
    """The same value."""
    return value


def times(key: str) -> Made:
    """The value times the count of numbers in another one, such as (0,1,2,3)."""
    return lambda value, leaves: value * max(1, len(re.findall(r"\d+", str(leaves[key]))))


def network(pattern: str, version: int = 1) -> Made:
    """The network whose stages 2 to 4 have these modules, blocks and widths."""

    def name(_: Any, leaves: Leaves) -> str:
        keys = ("NUM_MODULES", "NUM_BLOCKS", "NUM_CHANNELS")
        if "EXTRA" not in pattern:
            keys = tuple(key.lower() for key in keys)  # type: ignore[assignment]
        theirs = [tuple(leaves[pattern.format(n, key)] for key in keys) for n in (2, 3, 4)]
        for spec in NETWORKS.values():
            ours = [(s.modules, [s.blocks] * len(s.widths), list(s.widths)) for s in spec.stages]
            kind = isinstance(spec, HRNetSpec) and (spec.version, spec.bottlenecks)
            if kind == (version, 4) and theirs == ours:
                return spec.name
        raise Unsupported(f"no network of hrpose, which has {', '.join(NETWORKS)}")

    return name


def size(value: Any, _: Leaves) -> list[int]:
    """Width and height."""
    width, height = value
    return [int(width), int(height)]


def quarter(size: str) -> Callable[[Leaves], Any]:
    """A quarter of the size that this key has is the only one."""
    return lambda leaves: ([length // 4 for length in leaves[size]],)


def weights(value: Any, _: Leaves) -> str | None:
    """The name of published weights, or a file."""
    file = PurePosixPath(str(value or "")).name
    for name, row in RELEASED.items():
        if any(PurePosixPath(address).name == file for address in row.addresses):
            return name
    if "://" in str(value):
        raise Unsupported("unknown weights; download them and set weights=FILE")
    return str(value) if value else None


def boxes_in(value: Any, root: Any) -> str:
    """Detections, relative to the folder of the data."""
    return str(value).removeprefix(str(root)).lstrip("/") or "ground-truth"


def one_of(**names: Any) -> Made:
    """What each of the names that are known becomes."""

    def chosen(value: Any, _: Leaves) -> Any:
        if value not in names:
            raise Unsupported(f"expected one of {', '.join(names)}")
        return names[value]

    return chosen
