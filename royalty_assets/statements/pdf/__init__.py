"""A statement as a PDF: something to read, print and file.

``document`` says what stands on it, ``figures`` what is added up and how an amount looks,
``charts`` and ``sheet`` how it is drawn, ``typeface`` which letters there are.
"""

from royalty_assets.statements.pdf.document import statement_pdf

__all__ = ["statement_pdf"]
