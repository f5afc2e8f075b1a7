"""Text from files, made safe for the place where it is shown.

Names, notes and error messages of other libraries may hold anything: terminal escapes, line
breaks, markup, formulas. `printable` is for terminals and messages; the others add what their
place needs.
"""

import unicodedata

# Unicode categories that change what a terminal does, or the order of what it shows.
_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ELLIPSIS = "..."


def printable(text: object, limit: int = 300) -> str:
    r"""Text in one line of visible characters, cut at a length.

    Control characters, line separators, direction marks and lone surrogates become escapes.

    Args:
        text: a string, or anything with one.
        limit: the most characters to keep, the ellipsis included.

    Example:
        >>> printable("a\x1b[31m\nb")
        'a\\x1b[31m\\nb'
    """
    # Cut first: a megabyte is not worth escaping.
    whole = str(text)
    escaped = "".join(map(_escaped, whole[: limit + 1]))
    if len(whole) <= limit and len(escaped) <= limit:
        return escaped
    return escaped[: limit - len(_ELLIPSIS)] + _ELLIPSIS


def is_printable(text: str) -> bool:
    """Whether `printable` would leave a string as it is, whatever its length."""
    return all(unicodedata.category(c) not in _CONTROL for c in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _CONTROL:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def for_matplotlib(text: object, limit: int = 300) -> str:
    r"""Printable text that matplotlib draws as it is: a pair of dollars would be mathematics."""
    return printable(text, limit).replace("$", r"\$")


def for_csv(text: str) -> str:
    """Text for a cell of a CSV file, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
