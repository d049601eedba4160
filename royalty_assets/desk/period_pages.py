"""The desk's pages of accounting periods: which are closed, closing one, its statements, receipts.

What is shown of a month is in ``months``, what of a statement in ``statement_pages``. A month is
closed in two steps, on a page that shows its figures once more; what was shown is what is closed,
or nothing is.
"""

from dataclasses import dataclass

import polars as pl
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from royalty_assets.desk.forms import number_of, text_of, who_decides, with_notice
from royalty_assets.desk.months import amount_of, find_month, label_of, look_at
from royalty_assets.desk.pages import Pages, RefusedError
from royalty_assets.desk.statement_pages import (
    MEDIA_TYPES,
    amounts_table,
    paid,
    parts,
    shown_lines,
    statement_file,
    walk_rows,
    wanted_lines,
)
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Statement
from royalty_assets.domain.windows import Partition
from royalty_assets.orchestration.run_lock import AnotherRunError, only_run_of
from royalty_assets.pipeline.closing import close, closing_of, receipt
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.periods import committed_months, is_closed
from royalty_assets.pipeline.statements import statement_list, statement_of
from royalty_assets.statement_files import VERIFIER, payee_file_name, verifier
from royalty_assets.statements.pdf.figures import period_name

ROWS_PER_PAGE = 50
_NAME_LETTERS_MAX = 64
_WHY_LETTERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class PeriodPages:
    """The pages, over one project."""

    context: PipelineContext
    pages: Pages

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/periods", self.show_periods),
            Route("/periods/{month}/close", self.show_close),
            Route("/periods/{month}/close", self.close, methods=["POST"]),
            Route("/periods/{month}/statements", self.show_statements),
            Route("/periods/{month}/statement", self.show_statement),
            Route("/periods/{month}/statement/file", self.download),
            Route("/periods/{month}/receipt", self.give_receipt),
            Route(f"/{VERIFIER}", self.give_verifier),
        ]

    async def show_periods(self, request: Request) -> Response:
        """Every month that has a ledger, the last first."""

        def make() -> Response:
            months = [look_at(self.context, month) for month in committed_months(self.context)]
            return self.pages.page(
                request,
                "periods.html",
                months=months[::-1],
                has_key=self.context.signer is not None,
            )

        return await self.pages.show(request, make)

    async def show_close(self, request: Request) -> Response:
        """A month's figures once more, before it is closed."""

        def make() -> Response:
            month = look_at(self.context, self._month(request))
            if not month.is_ready:
                return RedirectResponse(f"/periods#{month.label}", 303)
            has_key = self.context.signer is not None
            return self.pages.page(request, "close.html", month=month, has_key=has_key)

        return await self.pages.show(request, make, "/periods")

    async def close(self, request: Request) -> Response:
        """Close a month, for good."""

        def change(form: FormData) -> Response:
            month = self._month(request)
            who = text_of(form, "name")[:_NAME_LETTERS_MAX] or who_decides(request, form)
            if not who:
                raise RefusedError("Say who closes the month.")
            try:
                with only_run_of(self.context.home):
                    self._refuse_if_changed(month, text_of(form, "version"))
                    commit = close(
                        self.context, month, who, text_of(form, "why")[:_WHY_LETTERS_MAX]
                    )
            except AnotherRunError:
                raise RefusedError(
                    "The project is being run, by this desk or another process. Wait for it to "
                    "end, look at the month again, and close it then.", 409,
                ) from None  # fmt: skip
            told = (
                f"{label_of(month)} is closed: {commit.counts['statements']:,} statements of "
                f"{commit.counts['lines']:,} lines, signed."
            )
            return with_notice(RedirectResponse(f"/periods#{label_of(month)}", 303), told)

        return await self.pages.change(request, change)

    def _refuse_if_changed(self, month: Partition, version: str) -> None:
        if is_closed(self.context, month):
            return  # closing says it
        if look_at(self.context, month).version != version:
            raise RefusedError(
                f"{label_of(month)} has changed since its figures were shown; look at them again.",
                409,
            )

    async def show_statements(self, request: Request) -> Response:
        """The statements of a month, by payee."""

        def make() -> Response:
            month = self._month(request)
            query = request.query_params
            text, currency = query.get("q", "")[:200], query.get("currency", "")
            everything = statement_list(self.context, month)
            wanted = _wanted(everything, text, currency)
            page, pages, first = _paging(query.get("page"), wanted.height)
            rows = wanted[first : first + ROWS_PER_PAGE]
            return self.pages.page(
                request,
                "statements.html",
                month=label_of(month),
                month_name=period_name(label_of(month)),
                is_closed=is_closed(self.context, month),
                statements=_with_amounts(rows),
                totals=_totals(wanted),
                number=wanted.height,
                known=everything.height,
                currencies=sorted(everything["payee_currency"].unique()),
                text=text,
                currency=currency,
                page=page,
                pages=pages,
            )

        return await self.pages.show(request, make, "/periods")

    async def show_statement(self, request: Request) -> Response:
        """One statement."""

        def make() -> Response:
            month, statement = self._statement(request)
            query = request.query_params
            text = query.get("q", "")[:200]
            lines = wanted_lines(statement, text)
            page, pages, first = _paging(query.get("page"), lines.height)
            currency = statement.currency
            return self.pages.page(
                request,
                "statement.html",
                month=label_of(month),
                month_name=period_name(label_of(month)),
                closing=closing_of(self.context, month),
                statement=statement,
                paid=paid(statement),
                walk=walk_rows(statement),
                services=parts(statement, "feed", "other services"),
                territories=parts(statement, "territory", "other territories"),
                lines=shown_lines(lines[first : first + ROWS_PER_PAGE], currency),
                number=lines.height,
                recoupment=amounts_table(statement.recoupment, currency),
                reserves=amounts_table(statement.reserves, currency),
                text=text,
                page=page,
                pages=pages,
            )

        return await self.pages.show(request, make, f"/periods/{_label(request)}/statements")

    async def download(self, request: Request) -> Response:
        """A statement as a file."""

        def make() -> Response:
            _, statement = self._statement(request)
            form = request.query_params.get("form", "")
            if form not in MEDIA_TYPES:
                raise RefusedError(
                    f"There is no form {form!r}; there are {', '.join(MEDIA_TYPES)}."
                )
            issued_by = request.query_params.get("issued_by", "").strip()[:200]
            name, content = statement_file(statement, form, issued_by)
            return _file(name, content, MEDIA_TYPES[form])

        return await self.pages.show(request, make, f"/periods/{_label(request)}/statements")

    async def give_receipt(self, request: Request) -> Response:
        """The receipt of one line, as JSON."""

        def make() -> Response:
            month = self._month(request)
            query = request.query_params
            payee, currency = query.get("payee", ""), query.get("currency", "")
            number = number_of(query.get("line"), 0)
            text = receipt(self.context, month, payee, currency, number)
            stem = f"{payee_file_name(payee)}-{label_of(month)}-{payee_file_name(currency)}"
            return _file(f"receipt-{stem}-{number}.json", text.encode(), "application/json")

        return await self.pages.show(request, make, f"/periods/{_label(request)}/statements")

    async def give_verifier(self, _: Request) -> Response:
        """The program that checks receipts."""
        return _file(VERIFIER, verifier(), "text/x-python")

    def _month(self, request: Request) -> Partition:
        month = find_month(self.context, _label(request))
        if month is None:
            raise RefusedError(
                f"{_label(request)} has no ledger; Periods, at the top, tells those that have.", 404
            )
        return month

    def _statement(self, request: Request) -> tuple[Partition, Statement]:
        month = self._month(request)
        payee = request.query_params.get("payee", "")
        currency = request.query_params.get("currency", "")
        statement = statement_of(self.context, month, payee, currency)
        if statement is None:
            raise RefusedError(
                f"There is no statement of {payee!r} in {currency!r} for {label_of(month)}.", 404
            )
        return month, statement


def _label(request: Request) -> str:
    return str(request.path_params["month"])


def _file(name: str, content: bytes, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _paging(wanted: str | None, rows: int) -> tuple[int, int, int]:
    """The page that is shown, how many there are, and its first row."""
    pages = max(-(-rows // ROWS_PER_PAGE), 1)
    page = min(max(number_of(wanted, 1), 1), pages)
    return page, pages, (page - 1) * ROWS_PER_PAGE


def _wanted(statements: pl.DataFrame, text: str, currency: str) -> pl.DataFrame:
    if currency:
        statements = statements.filter(pl.col("payee_currency") == currency)
    if words := text.casefold().split():
        told = pl.concat_str("payee_id", "payee_name", separator=" ").str.to_lowercase()
        statements = statements.filter(
            pl.all_horizontal(told.str.contains(word, literal=True) for word in words)
        )
    return statements.sort(pl.col("payee_name").str.to_lowercase(), "payee_id", "payee_currency")


def _with_amounts(statements: pl.DataFrame) -> list[dict[str, object]]:
    amounts = {
        name: [
            amount_of(atoms, currency)
            for atoms, currency in zip(
                series_to_atoms(statements[name]), statements["payee_currency"], strict=True
            )
        ]
        for name in ("amount_paid", "amount_carried_forward")
    }
    return [
        row | {name: amounts[name][i] for name in amounts}
        for i, row in enumerate(statements.iter_rows(named=True))
    ]


def _totals(statements: pl.DataFrame) -> list[tuple[str, str]]:
    """What is paid by all of them, by currency."""
    sums = dict.fromkeys(sorted(statements["payee_currency"].unique()), 0)
    for atoms, currency in zip(
        series_to_atoms(statements["amount_paid"]), statements["payee_currency"], strict=True
    ):
        sums[currency] += atoms
    return [(amount_of(atoms, currency).shown, currency) for currency, atoms in sums.items()]
