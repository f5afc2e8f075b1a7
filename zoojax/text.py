"""Text from files, made safe for the place where it is shown.

Names, notes and error messages of other libraries may contain terminal escapes, line breaks,
markup or formulas. `printable` is for terminals and messages; the other functions escape text
for one specific format.
"""

import unicodedata

# Unicode categories that change the state of a terminal or the order of the displayed text.
_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Spreadsheets treat a cell that starts with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ELLIPSIS = "..."


def printable(text: object, limit: int = 300) -> str:
    r"""Converts a value to one line of visible characters of limited length.

    Control characters, line separators, direction marks and lone surrogates are escaped.

    Args:
        text: A string, or an object that is converted with `str`.
        limit: Maximum number of characters, including the ellipsis of a truncated text.

    Returns:
        The escaped text.

    Example:
        >>> printable("a\x1b[31m\nb")
        'a\\x1b[31m\\nb'
    """
    # Truncate before escaping: the text may have megabytes.
    original = str(text)
    escaped = "".join(map(_escape, original[: limit + 1]))
    if len(original) <= limit and len(escaped) <= limit:
        return escaped
    return escaped[: limit - len(_ELLIPSIS)] + _ELLIPSIS


def is_printable(text: str) -> bool:
    """Whether `printable` would return a string unchanged, whatever its length."""
    return all(unicodedata.category(c) not in _CONTROL for c in text)


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or its type if there is no message."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])


def _escape(character: str) -> str:
    if unicodedata.category(character) not in _CONTROL:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def for_matplotlib(text: object, limit: int = 300) -> str:
    r"""Returns printable text without matplotlib's math markup (``$`` becomes ``\$``)."""
    return printable(text, limit).replace("$", r"\$")


def for_csv(text: str) -> str:
    """Returns text for a CSV cell, quoted if a spreadsheet would evaluate it as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
