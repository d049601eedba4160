"""The desk's pages: the queue, one question, the log of decisions, CSV out and in.

Each page is a plain document with forms; the script adds keys, and the name as it stands in the
page. Every change is a POST with the page's token, and is answered by a redirect, so that going
back or reloading repeats nothing. Accounting periods and statements are in ``period_pages``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from urllib.parse import quote_plus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from royalty_assets.desk.apply import Applying
from royalty_assets.desk.forms import (
    WHO_COOKIE,
    back,
    filters_of,
    number_of,
    onwards,
    page_url,
    seen_number,
    text_of,
    who_decides,
    with_notice,
)
from royalty_assets.desk.guard import Guard
from royalty_assets.desk.pages import Pages, RefusedError
from royalty_assets.desk.period_pages import PeriodPages
from royalty_assets.desk.queue import Queue, shown_money, summed_money
from royalty_assets.desk.spreadsheet import read_wishes, write_questions
from royalty_assets.domain.adjudication import (
    Action,
    AdjudicationError,
    Decision,
    State,
    SubjectKind,
    standings,
)
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.matching.words import reason_in_words
from royalty_assets.pipeline.adjudicate import (
    Ruling,
    last_number,
    needs_second,
    rule_on,
    standing_of,
)
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.desk_recordings import add_recording, remove_unused
from royalty_assets.pipeline.drift import (
    catalog_subject,
    disagreements_by_partition,
    drift_by_month,
    drift_is_accepted,
)
from royalty_assets.pipeline.questions import Question
from royalty_assets.storage.registry import RegistryConflictError

ROWS_PER_PAGE = 50
UPLOAD_BYTES_MAX = 20 << 20
_LOG_ROWS = 1_000
_CHANGES_RULES = frozenset({Action.ACCEPT, Action.REJECT, Action.CONFIRM, Action.REVOKE})
_STATE_WORDS = {
    State.OPEN: "open",
    State.PROPOSED: "awaits a second person",
    State.DEFERRED: "deferred",
    State.RESOLVED: "resolved",
    State.REJECTED: "rejected",
}
_KIND_WORDS = {
    SubjectKind.ISRC: "unknown ISRC",
    SubjectKind.NAME: "name",
    SubjectKind.RELEASE: "release",
    SubjectKind.RIGHT: "missing right",
    SubjectKind.UNNAMED: "nothing to tell it by",
}


def make_desk(
    context: PipelineContext, hosts: Sequence[str] = ("127.0.0.1", "localhost")
) -> Starlette:
    """The desk of an open project.

    Args:
        context: the project.
        hosts: names by which it may be asked; others are refused, so that no name that another
            site points here can be used.
    """
    desk = _Desk(context)
    static = Path(__file__).parent / "static"
    routes = [
        Route("/", desk.show_queue),
        Route("/question", desk.show_question),
        Route("/log", desk.show_log),
        Route("/questions.csv", desk.download),
        Route("/applying", desk.show_applying),
        Route("/drift", desk.show_drift),
        Route("/who", desk.set_who, methods=["POST"]),
        Route("/decide", desk.decide, methods=["POST"]),
        Route("/recordings", desk.new_recording, methods=["POST"]),
        Route("/questions.csv", desk.upload, methods=["POST"]),
        Route("/apply", desk.apply, methods=["POST"]),
        Route("/drift", desk.accept_drift, methods=["POST"]),
        *PeriodPages(context, desk.pages).routes(),
        Mount("/static", StaticFiles(directory=static)),
    ]
    middleware = [
        # In this order, so that an answer to a wrong host has the headers, too.
        Middleware(Guard),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
    ]
    return Starlette(routes=routes, middleware=middleware)


@dataclass(slots=True)
class _Desk:
    """The pages, over one project."""

    context: PipelineContext
    queue: Queue = field(init=False)
    applying: Applying = field(init=False)
    pages: Pages = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.context)
        self.applying = Applying(self.context.home)
        self.pages = Pages(
            self.applying,
            {
                "state_words": _STATE_WORDS,
                "kind_words": _KIND_WORDS,
                "reason_in_words": reason_in_words,
                "money": shown_money,
                "page_url": page_url,
            },
        )

    # Pages

    async def show_queue(self, request: Request) -> Response:
        """The questions, those with most money first."""
        filters = filters_of(request.query_params)
        known = await run_in_threadpool(self.queue.all)
        wanted = [question for question in known if filters.wants(question)]
        pages = max(-(-len(wanted) // ROWS_PER_PAGE), 1)
        page = min(max(number_of(request.query_params.get("page"), 1), 1), pages)
        shown = wanted[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE]
        return self.pages.page(
            request,
            "queue.html",
            questions=shown,
            nearest=await run_in_threadpool(self.queue.names, shown),
            number=len(wanted),
            stakes=summed_money(wanted),
            filters=filters,
            known=len(known),
            has_run=bool(self.context.registry.commits(Stage.MATCHED)),
            page=page,
            pages=pages,
            states=list(State),
            kinds=list(_KIND_WORDS),
            feeds=sorted(feed.name for feed in self.context.project.feeds),
            counts={state: sum(q.state is state for q in known) for state in State},
        )

    async def show_question(self, request: Request) -> Response:
        """One question beside the recordings that it may mean."""
        subject = request.query_params.get("subject", "")
        await run_in_threadpool(self.queue.all)
        question = self.queue.find(subject)
        history = await run_in_threadpool(self.context.registry.adjudications, subject)
        if question is None:
            standing = standing_of(self.context, subject)
            return self.pages.page(
                request, "gone.html", 404, subject=subject, standing=standing, history=history
            )
        search = request.query_params.get("search", "")
        candidates = await run_in_threadpool(self.queue.candidates, question)
        found = await run_in_threadpool(self.queue.search, search)
        filters = filters_of(request.query_params)
        return self.pages.page(
            request,
            "question.html",
            question=question,
            candidates=candidates,
            search=search,
            found=found,
            filters=filters,
            history=history,
            seen=history[-1].number if history else "",
            next_subject=await run_in_threadpool(self.queue.after, subject, filters),
        )

    async def show_log(self, request: Request) -> Response:
        """Who decided what, when and why, newest first."""
        decisions = await run_in_threadpool(self.context.registry.adjudications)
        standing = standings(decisions, self.context.now().date())
        in_force = {
            one.decision.number
            for one in standing.values()
            if one.decision is not None and one.state is not State.OPEN
        }
        shown = decisions[::-1][:_LOG_ROWS]
        rules = {one.rule.number for one in standing.values() if one.rule is not None}
        return self.pages.page(request, "log.html", decisions=shown, in_force=in_force, rules=rules)

    async def show_drift(self, request: Request) -> Response:
        """What the catalog in force moves of money paid before."""
        months = await run_in_threadpool(drift_by_month, self.context)
        return self.pages.page(
            request,
            "drift.html",
            months=months,
            usage=await run_in_threadpool(disagreements_by_partition, self.context),
            accepted=drift_is_accepted(self.context),
            version=catalog_subject(self.context).partition(":")[2][:12] if months else "",
        )

    async def show_applying(self, request: Request) -> Response:
        """How the run that applies decisions goes."""
        return self.pages.page(request, "applying.html", run=self.applying.look())

    async def download(self, request: Request) -> Response:
        """The questions that are wanted, as CSV."""
        wanted = await run_in_threadpool(self.queue.some, filters_of(request.query_params))
        headers = {"Content-Disposition": 'attachment; filename="questions.csv"'}
        return Response(write_questions(wanted), media_type="text/csv", headers=headers)

    # Changes

    async def set_who(self, request: Request) -> Response:
        """Remember who sits here."""

        def change(form: FormData) -> Response:
            response = back(form)
            response.set_cookie(
                WHO_COOKIE, quote_plus(text_of(form, "who")[:64]), samesite="strict",
                max_age=90 * 86400, httponly=True,
            )  # fmt: skip
            return response

        return await self.pages.change(request, change)

    async def decide(self, request: Request) -> Response:
        """Take one decision, about one question or several."""

        def change(form: FormData) -> Response:
            subjects = list(dict.fromkeys(str(value) for value in form.getlist("subject")))
            if not subjects:
                raise RefusedError("Select at least one question first.")
            known = self.queue.known()
            taken, problems = [], []
            for subject in subjects:
                try:
                    taken.append(self._decide(request, form, subject, known))
                except (AdjudicationError, RegistryConflictError) as error:
                    problems.append(str(error))
            if problems and not taken:
                raise RefusedError("; ".join(dict.fromkeys(problems)), 409)
            told = self._told(taken)
            if problems:
                told += f" Not decided: {'; '.join(dict.fromkeys(problems))}."
            return with_notice(onwards(form, taken), told)

        return await self.pages.change(request, change)

    async def new_recording(self, request: Request) -> Response:
        """Add a recording to the catalog, and accept it for a question."""

        def change(form: FormData) -> Response:
            subject = text_of(form, "subject")
            question = self._question(subject)
            fields = {
                name: text_of(form, name)
                for name in ("isrc", "title", "artist", "upc", "release_title")
            }
            if not who_decides(request, form):
                raise RefusedError("Say who you are first, at the top of the page.")
            if needs_second(self.context, question):
                raise RefusedError(
                    "So much money is at stake that two people have to agree. Add the recording to "
                    "the catalog's own files, then accept it here.", 409,
                )  # fmt: skip
            recording_id = add_recording(self.context, fields)
            ruling = Ruling(
                Action.ACCEPT, who_decides(request, form), text_of(form, "why"), recording_id,
                seen=last_number(self.context, subject),
            )  # fmt: skip
            decision = rule_on(self.context, question, ruling)
            told = (
                f"{recording_id} is in the catalog, and accepted for this question. The catalog "
                "has changed, so that all months are to be matched again."
            )
            return with_notice(onwards(form, [decision]), told)

        return await self.pages.change(request, change)

    async def upload(self, request: Request) -> Response:
        """Take the decisions that a spreadsheet brings."""
        async with request.form(max_files=1) as form:
            file = form.get("file")
            content = await file.read(UPLOAD_BYTES_MAX + 1) if isinstance(file, UploadFile) else b""

            def change(form: FormData) -> Response:
                if not content:
                    raise RefusedError("Choose the CSV file to take decisions from.")
                if len(content) > UPLOAD_BYTES_MAX:
                    raise RefusedError("The file has more than 20 MB; split it.")
                return with_notice(back(form), self._take_wishes(request, form, content))

            return await self.pages.change(request, change, form)

    async def accept_drift(self, request: Request) -> Response:
        """Let what the catalog in force moves be paid."""

        def change(form: FormData) -> Response:
            subject = catalog_subject(self.context)
            if subject.partition(":")[2][:12] != text_of(form, "version"):
                raise RefusedError("The catalog has changed meanwhile; look at it again.", 409)
            told = [one.told[0] for one in drift_by_month(self.context) if one.told]
            question = Question(subject, "; ".join(told)[:300])
            # It may move any amount: where large ones need two people, so does this.
            question.is_valued = False
            ruling = Ruling(
                Action.ACCEPT, who_decides(request, form), text_of(form, "why"),
                seen=last_number(self.context, subject),
            )  # fmt: skip
            decision = rule_on(self.context, question, ruling)
            waits = " It awaits a second person." if decision.needs_second else ""
            return with_notice(back(form), f"Recorded: the catalog is accepted.{waits}")

        return await self.pages.change(request, change)

    async def apply(self, request: Request) -> Response:
        """Run the project, so that decisions are applied and paid."""

        def change(_: FormData) -> Response:
            self.applying.start()
            return RedirectResponse("/applying", 303)

        return await self.pages.change(request, change)

    # What they share

    def _decide(
        self, request: Request, form: FormData, subject: str, known: frozenset[str]
    ) -> Decision:
        until = text_of(form, "until")
        try:
            day = date.fromisoformat(until) if until else None
        except ValueError:
            raise AdjudicationError(f"{until!r} is no day; write 2026-01-31") from None
        word, _, recording_id = text_of(form, "decision").partition(" ")
        try:
            action = Action(word)
        except ValueError:
            raise AdjudicationError(f"no such decision: {word!r}") from None
        seen = form.get(f"seen {subject}")
        ruling = Ruling(
            action,
            who_decides(request, form),
            text_of(form, "why"),
            recording_id or None,
            day,
            # A form that says that nothing was decided yet means just that.
            seen_number(seen) if isinstance(seen, str) else last_number(self.context, subject),
        )
        decision = rule_on(self.context, self._question(subject), ruling, known)
        if action is Action.REVOKE:
            remove_unused(self.context)
        return decision

    def _question(self, subject: str) -> Question:
        question = self.queue.find(subject)
        if question is None:
            # Its usage is matched by now; what was decided about it can still be decided anew.
            standing = standing_of(self.context, subject)
            if standing.decision is None:
                raise AdjudicationError(f"nothing in force asks about {subject!r}")
            told = dict(standing.decision.told)
            question = Question(subject, told.get("title", ""), told.get("artist", ""))
            question.is_valued = False
            question.standing = standing
        return question

    def _take_wishes(self, request: Request, form: FormData, content: bytes) -> str:
        wishes, problems = read_wishes(content)
        known = self.queue.known()
        taken = []
        for wish in wishes:
            ruling = Ruling(
                wish.action, who_decides(request, form), wish.why,
                wish.recording_id or None, wish.until,
                wish.seen if wish.knows_seen else last_number(self.context, wish.subject),
            )  # fmt: skip
            try:
                taken.append(rule_on(self.context, self._question(wish.subject), ruling, known))
            except (AdjudicationError, RegistryConflictError) as error:
                problems.append(f"line {wish.line}: {error}")
        told = self._told(taken) if taken else "Nothing was decided."
        if not problems:
            return told
        more = f"; and {len(problems) - 10:,} more" if len(problems) > 10 else ""
        return f"{told} Refused: {'; '.join(problems[:10])}{more}."

    def _told(self, taken: Sequence[Decision]) -> str:
        many = f" ({len(taken)} questions)" if len(taken) > 1 else ""
        words = f"Recorded: {', '.join(sorted({str(d.action) for d in taken}))}{many}."
        waiting = sum(decision.needs_second for decision in taken)
        if waiting:
            words += f" {waiting} await a second person." if many else " It awaits a second person."
        applied = {d.subject for d in taken if d.action in _CHANGES_RULES and not d.needs_second}
        if partitions := self.context.registry.partitions_with_subjects(applied):
            number = len(partitions)
            words += f" {number} partition{'s are' if number > 1 else ' is'} to be matched again."
        return words
