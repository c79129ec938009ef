"""Agreement of measures with a reference, such as a marker system: bias, limits, ICC.

- Bland and Altman, "Measuring agreement in method comparison studies", 1999: the bias is the mean
  difference, the limits of agreement are 1.96 standard deviations around it.
- Shrout and Fleiss, "Intraclass correlations: uses in assessing rater reliability", 1979: ICC(2,1)
  for absolute agreement, which a bias lowers, and ICC(3,1) for consistency, which it does not.
- The share of big errors, with Wilson's interval.

Intervals are of 95 %, and take the pairs for independent. Neighboring images of a clip are not: of
one clip the intervals are too narrow.

Tables are CSV in one of two forms: as `hrpose measure` writes them, with a row for each value and
the columns `measure` and `value`, or with a column for each measure. `frame` or `time`, in seconds,
say when; `file` and `person` say where and whose, and may be left out in a reference of one. Values
of a reference that has other times are interpolated.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.io import printable, read_file
from hrpose.viz.html import Band, document, scatter_chart, table

Floats = NDArray[np.float64]

MAX_BYTES = 2**28
_TIMES = ("frame", "time")
# Of tables with a row for each value, as `hrpose measure` writes them.
_ROWS = ("measure", "value")
_ABOUT = ("file", "person", *_TIMES, "low", "high", "unit", "flag")

_LEVEL = 0.95
_TAIL = 1 - (1 - _LEVEL) / 2
# Limits of agreement, in standard deviations.
_REACH = 1.96
MIN_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN where the pairs do not determine it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of n `pairs`, measured minus reference, in their unit: `bias`, the standard `deviation` of
    the differences, the `lower` and `upper` limit of agreement, and `mean_absolute` difference.

    `icc_2_1` and `icc_3_1` are ICC(2,1) and ICC(3,1), the same as "ICC2" and "ICC3" elsewhere.
    `big_errors` is the share of differences beyond `big`, in either direction.
    """

    pairs: int
    bias: Estimate
    deviation: float
    lower: Estimate
    upper: Estimate
    mean_absolute: float
    icc_2_1: Estimate
    icc_3_1: Estimate
    big: float
    big_errors: Estimate


def agreement(measured: ArrayLike, reference: ArrayLike, big: float) -> Agreement:
    """The agreement of `measured` (n,) with `reference` (n,), without pairs in which one is NaN.

    Errors beyond `big`, in the unit of both, are big errors. Raises UserError where there are fewer
    than three pairs.
    """
    from scipy.stats import t

    found, wanted = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    if found.shape != wanted.shape or found.ndim != 1:
        raise ValueError(
            f"agreement: expected two arrays (n,), found {found.shape} and {wanted.shape}"
        )
    both = np.isfinite(found) & np.isfinite(wanted)
    found, wanted = found[both], wanted[both]
    n = len(found)
    if n < MIN_PAIRS:
        raise UserError(
            f"agreement: expected at least {MIN_PAIRS} pairs of values, found {n}",
            code="reference-invalid",
        )
    difference = found - wanted
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    quantile = float(t.ppf(_TAIL, n - 1))
    around = quantile * deviation / np.sqrt(n)
    # The variance of a limit: that of the mean, and that of 1.96 standard deviations.
    limit = quantile * deviation * np.sqrt(1 / n + _REACH**2 / (2 * (n - 1)))
    limits = [
        Estimate(value, value - limit, value + limit)
        for value in (bias - _REACH * deviation, bias + _REACH * deviation)
    ]
    absolute, consistent = intraclass(np.stack([found, wanted], axis=1))
    return Agreement(
        pairs=n,
        bias=Estimate(bias, bias - around, bias + around),
        deviation=deviation,
        lower=limits[0],
        upper=limits[1],
        mean_absolute=float(np.abs(difference).mean()),
        icc_2_1=absolute,
        icc_3_1=consistent,
        big=big,
        big_errors=_share(int((np.abs(difference) > big).sum()), n),
    )


def intraclass(ratings: NDArray[np.float64]) -> tuple[Estimate, Estimate]:
    """ICC(2,1) and ICC(3,1) of ratings (n, k): n targets, each rated by the same k raters.

    From the mean squares of a two-way analysis of variance; the intervals are those of Shrout and
    Fleiss. NaN where nothing varies.
    """
    from scipy.stats import f

    n, k = ratings.shape
    grand, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - rows[:, None] - columns + grand
    between = float(k * np.square(rows - grand).sum() / (n - 1))
    raters = float(n * np.square(columns - grand).sum() / (k - 1))
    error = float(np.square(residual).sum() / ((n - 1) * (k - 1)))
    nothing = Estimate(np.nan, np.nan, np.nan)
    if between == 0 and error == 0:
        return nothing, nothing
    consistency = (between - error) / (between + (k - 1) * error)
    absolute = (between - error) / (between + (k - 1) * error + k * (raters - error) / n)
    if error <= 1e-12 * between:  # a bias at most: no spread to estimate an interval from
        return Estimate(absolute, np.nan, np.nan), Estimate(consistency, consistency, consistency)
    ratio, free = between / error, (n - 1, (n - 1) * (k - 1))
    low, high = ratio / f.ppf(_TAIL, *free), ratio * f.ppf(_TAIL, *free[::-1])
    consistent = Estimate(consistency, *(float((x - 1) / (x + k - 1)) for x in (low, high)))
    # Satterthwaite's degrees of freedom of the raters and errors together.
    spread = n * (1 + (k - 1) * absolute) - k * absolute
    rater_ratio = raters / error
    degrees = (
        (k - 1) * (n - 1) * (k * absolute * rater_ratio + spread) ** 2
        / ((n - 1) * k**2 * absolute**2 * rater_ratio**2 + spread**2)
    )  # fmt: skip
    upper, lower = f.ppf(_TAIL, n - 1, degrees), f.ppf(_TAIL, degrees, n - 1)
    others = k * raters + (k * n - k - n) * error
    bounds = (
        n * (between - upper * error) / (upper * others + n * between),
        n * (lower * between - error) / (others + n * lower * between),
    )
    return Estimate(absolute, *map(float, bounds)), consistent


def _share(count: int, n: int) -> Estimate:
    """A share with Wilson's interval, which is sensible for 0 and 1 too."""
    share, square = count / n, _REACH**2
    center = (share + square / (2 * n)) / (1 + square / n)
    half = _REACH * np.sqrt(share * (1 - share) / n + square / (4 * n**2)) / (1 + square / n)
    return Estimate(share, max(float(center - half), 0.0), min(float(center + half), 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One measure of one person in one file: `values` (t,) at `frame` and `time` (t,), NaN where
    these are unknown. `file` and `person` are empty where the table does not say.
    """

    file: str
    person: str
    measure: str
    frame: Floats
    time: Floats
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One measure of all files and persons: its pairs (n,), and their agreement."""

    measure: str
    measured: Floats
    reference: Floats
    agreement: Agreement


def read_measures(path: Path) -> list[Column]:
    """The columns of a table. Raises UserError, naming line and column, where it is none."""
    content = read_file(path, MAX_BYTES)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid(path, "a table as CSV", str(error)) from error
    names = [name for name in (rows[0] if rows else {}) if name is not None]
    long = set(_ROWS) <= set(names)
    measures = [] if long else [name for name in names if name not in _ABOUT]
    if not rows or not (long or measures) or not (set(names) & {"file", *_TIMES}):
        raise _invalid(
            path,
            "columns `frame`, `time` or `file`, and `measure` and `value` or one for each measure",
            f"the columns {', '.join(names)}" if rows else "no rows",
        )
    found: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for line, row in enumerate(rows, start=2):
        file, person = (str(row.get(name) or "") for name in ("file", "person"))
        when = [_number(path, line, name, row.get(name)) for name in _TIMES]
        values = {row["measure"] or "": row["value"]} if long else {m: row[m] for m in measures}
        for measure, text in values.items():
            value = _number(path, line, "value" if long else measure, text)
            found.setdefault((file, person, measure), []).append((when[0], when[1], value))
    return [Column(*key, *np.array(rows_of).T) for key, rows_of in found.items()]


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        return float(text) if text and text.strip() else np.nan
    except ValueError as error:
        raise _invalid(path, f"a number in line {line}, column `{name}`", repr(text)) from error


def _invalid(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path}: expected {expected}, found {printable(found[:200])}", code="reference-invalid"
    )


def compare_measures(
    measured: Path, reference: Path, big: float, person: str | None = None
) -> list[Compared]:
    """The agreement of each measure that is in both tables, over all files and persons.

    Errors beyond `big`, in the measure's unit, are big errors. `person` is whom a reference without
    such a column is of. Raises UserError where a file is no such table or nothing fits.
    """
    own = [c for c in read_measures(measured) if person is None or c.person == person]
    wanted = read_measures(reference)
    common = [m for m in dict.fromkeys(c.measure for c in own) if m in {c.measure for c in wanted}]
    if not common:
        known = ", ".join(dict.fromkeys(c.measure for c in own)) or f"none of person {person}"
        others = ", ".join(dict.fromkeys(c.measure for c in wanted))
        raise _invalid(reference, f"measures of {measured} ({known})", others)
    result = []
    for measure in common:
        pairs = list(_pairs(measured, reference, own, wanted, measure))
        values = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0))
        values = values[:, np.isfinite(values).all(axis=0)]
        if values.shape[1] < MIN_PAIRS:
            raise _invalid(
                reference,
                f"at least {MIN_PAIRS} values of `{measure}` at the frames, times or files of "
                f"{measured}",
                str(values.shape[1]),
            )
        mine, theirs = values
        result.append(Compared(measure, mine, theirs, agreement(mine, theirs, big)))
    return result


def _pairs(
    measured: Path, reference: Path, own: list[Column], wanted: list[Column], measure: str
) -> Iterator[Floats]:
    """(2, t) measured and reference values of each file and person that is in both."""
    mine = [column for column in own if column.measure == measure]
    for column in mine:
        fits = [
            other
            for other in wanted
            if other.measure == measure
            and other.file in ("", column.file)
            and other.person in ("", column.person)
        ]
        for other in fits:
            ambiguous = sum(
                other.file in ("", each.file) and other.person in ("", each.person) for each in mine
            )
            if ambiguous > 1:
                missing = "person" if not other.person else "file"
                raise _invalid(
                    reference,
                    f"a column `{missing}`, as {measured} has {ambiguous} series of `{measure}` "
                    "(or name one with --person)",
                    "none",
                )
            yield np.stack([column.values, _at(column, other)])


def _at(column: Column, other: Column) -> Floats:
    """The reference's values (t,) at the frames or times of a measured column."""
    for mine, theirs, between in (
        (column.frame, other.frame, False),
        (column.time, other.time, True),
    ):
        known = np.isfinite(theirs)
        if not known.any() or not np.isfinite(mine).any():
            continue
        order = np.argsort(theirs[known], kind="stable")
        at, values = theirs[known][order], other.values[known][order]
        if between:
            return np.asarray(np.interp(mine, at, values, left=np.nan, right=np.nan))
        rows = np.searchsorted(at, mine).clip(max=len(at) - 1)
        return np.where(at[rows] == mine, values[rows], np.nan)
    # Images: one value each.
    return np.full(len(column.values), other.values[0] if len(other.values) == 1 else np.nan)


def render_agreement(compared: list[Compared], names: tuple[str, str]) -> str:
    """The page: a table, and Bland and Altman's plot of each measure."""
    rows = [
        [
            escape(each.measure),
            str(each.agreement.pairs),
            *(_spelled(e) for e in (each.agreement.bias, each.agreement.lower)),
            _spelled(each.agreement.upper),
            _spelled(each.agreement.icc_2_1, 3),
            _spelled(each.agreement.icc_3_1, 3),
            f"{_spelled(each.agreement.big_errors, 3)} beyond {each.agreement.big:g}",
        ]
        for each in compared
    ]
    heads = [
        "",
        "pairs",
        "bias",
        "lower limit",
        "upper limit",
        "ICC(2,1)",
        "ICC(3,1)",
        "big errors",
    ]
    charts = "".join(f"<div><h2>{escape(e.measure)}</h2>{_chart(e)}</div>" for e in compared)
    return document(
        "Agreement with a reference",
        "hrpose.evaluation",
        header=f"<p>{escape(names[0])}, minus {escape(names[1])}</p>",
        main=f"<section>{table(heads, rows)}<p>In brackets the 95 % interval, which takes the "
        "values for independent: of neighboring images of one clip it is too narrow. Between the "
        "limits of agreement are 95 % of the differences. ICC(2,1) is absolute agreement, which a "
        "bias lowers, ICC(3,1) consistency.</p></section>"
        f'<section class="charts">{charts}</section>',
        footer="After Bland and Altman 1999, and Shrout and Fleiss 1979. Made by hrpose.",
    )


def _chart(compared: Compared) -> str:
    found = compared.agreement
    bands = [
        Band(name, each.value, each.low, each.high)
        for name, each in (
            ("upper limit", found.upper),
            ("bias", found.bias),
            ("lower limit", found.lower),
        )
    ]
    mean = (compared.measured + compared.reference) / 2
    difference = compared.measured - compared.reference
    return scatter_chart(mean, difference, bands, "mean of both", "measured - reference")


def _spelled(value: Estimate, digits: int = 2) -> str:
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
