"""Conditions on tables as text: "test_acc > 0.8 and optimizer in ('adam', 'sgd')".

The text is parsed, never evaluated as Python.

    condition   comparisons, joined by and, or, not (or &, |, ~) and parentheses
    comparison  ==, !=, <, <=, >, >=, in, not in, between values; a < b < c
    value       a column, a number, a quoted text, True, False, None, sums and products of values
"""

import ast
import functools
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.text import printable

_MAX_LENGTH = 2_000
_LARGEST = 2**63
_COMPARE: dict[type, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_UNARY: dict[type, Callable[[pl.Expr], pl.Expr]] = {
    ast.Not: operator.invert,
    ast.Invert: operator.invert,
    ast.USub: operator.neg,
}


def parse_condition(text: str, columns: Sequence[str]) -> pl.Expr:
    """Converts a condition to an expression of polars.

    Args:
        text: The condition.
        columns: Names of the columns that it may use.

    Returns:
        The expression.

    Raises:
        ZoojaxError: If the text is not a condition, or names an unknown column.

    Example:
        >>> table = pl.DataFrame({"seed": [1, 2], "init": ["normal", "uniform"]})
        >>> table.filter(parse_condition("seed < 3 and init == 'normal'", table.columns)).rows()
        [(1, 'normal')]
    """
    if len(text) > _MAX_LENGTH:
        raise ZoojaxError(f"the condition is longer than {_MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval")
        return _Converter(text, columns).expression(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _invalid(text, 'give a condition such as "test_acc > 0.8 and seed < 10"') from error


def _invalid(text: str, reason: str) -> ZoojaxError:
    return ZoojaxError(f"condition {printable(repr(text), 80)}: {reason}")


class _Converter:
    """Converts the nodes of a parsed condition; all other nodes are refused."""

    def __init__(self, text: str, columns: Sequence[str]):
        self.text, self.columns = text, columns

    def expression(self, node: ast.expr) -> pl.Expr:
        match node:
            case ast.Name():
                return self._column(node.id)
            case ast.Constant():
                return pl.lit(self._value(node))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](self.expression(operand))
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self.expression(left), self.expression(right))
            case ast.BoolOp(op=op, values=values):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                return functools.reduce(join, map(self.expression, values))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                lefts = [left, *rights[:-1]]
                pairs = map(self._comparison, lefts, ops, rights)
                return functools.reduce(operator.and_, pairs)
        raise _invalid(self.text, f"{type(node).__name__} is not supported")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pl.Expr:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise _invalid(self.text, "`in` needs a list of values, such as (1, 2)")
            within = self.expression(left).is_in([self._value(each) for each in right.elts])
            return ~within if isinstance(op, ast.NotIn) else within
        is_none = isinstance(right, ast.Constant) and right.value is None
        if is_none and isinstance(op, ast.Eq | ast.Is):
            return self.expression(left).is_null()
        if is_none and isinstance(op, ast.NotEq | ast.IsNot):
            return self.expression(left).is_not_null()
        if type(op) not in _COMPARE:
            raise _invalid(self.text, f"{type(op).__name__} is not supported")
        return _COMPARE[type(op)](self.expression(left), self.expression(right))

    def _column(self, name: str) -> pl.Expr:
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise _invalid(
                self.text,
                f"there is no column {printable(name, 40)}; there are: {printable(known, 600)}",
            )
        return pl.col(name)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._value(node.operand)
            return -value if isinstance(value, int | float) else self._refuse(value)
        value = node.value if isinstance(node, ast.Constant) else self._refuse(node)
        if not isinstance(value, int | float | str | None):
            self._refuse(value)
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise _invalid(self.text, "a number is too large")
        return value

    def _refuse(self, value: object) -> Any:
        raise _invalid(self.text, f"{type(value).__name__} is not a number, text, bool or None")


def select_rows(table: pl.DataFrame, condition: object) -> pl.Series:
    """Finds the rows of a table that meet a condition.

    Args:
        table: The table.
        condition: A condition as text, an expression of polars, a function of the table, or one
            bool per row.

    Returns:
        One bool per row; rows with an unknown (null) result are False.

    Raises:
        ZoojaxError: If the condition is none of these, or fails on this table.
    """
    if isinstance(condition, str):
        condition = parse_condition(condition, table.columns)
    elif callable(condition) and not isinstance(condition, pl.Series):
        condition = condition(table)
    try:
        if isinstance(condition, pl.Expr):
            # Also if the condition is constant.
            result = table.select(pl.int_range(pl.len()), condition.alias("selected"))["selected"]
        else:
            result = pl.Series("selected", condition)  # pyright: ignore[reportArgumentType]
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        reason = printable((str(error).strip() or type(error).__name__).splitlines()[0], 120)
        raise ZoojaxError(f"the condition {printable(condition, 80)} fails: {reason}") from error
    if result.dtype != pl.Boolean:
        raise ZoojaxError(
            f"the condition returns values of type {result.dtype}; compare them, as in seed < 10"
        )
    if len(result) != len(table):
        raise ZoojaxError(f"the condition has {len(result)} values for {len(table)} members")
    return result.fill_null(False)
