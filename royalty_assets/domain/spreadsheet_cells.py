"""Texts that a spreadsheet must not run.

A cell that begins like a formula is one to a spreadsheet, and a title or a name comes from outside:
``=HYPERLINK(...)`` in a title would be a link in the payee's file. Such a text gets an apostrophe
before it, which spreadsheets take for "this is text". Numbers are not texts: a negative amount is
written as it is. Source: OWASP, "CSV injection".
"""

# Those of full width are formulas to spreadsheets in Japanese and Chinese.
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
TEXT_MARK = "'"
BOM = "\ufeff"
"""Before a CSV in UTF-8; without it Excel reads names in the machine's old encoding."""


def as_text_cell(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would run it."""
    return f"{TEXT_MARK}{text}" if text.startswith(_STARTS_FORMULA) else text


def without_text_mark(cell: str) -> str:
    """A cell of an identifier as it was before ``as_text_cell``."""
    return cell.removeprefix(TEXT_MARK)
