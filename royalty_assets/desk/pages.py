"""What all pages of the desk share: templates, tokens, refusals in words.

A page is a rendered template. A change is a POST with the page's token; what cannot be done is
answered by a page that says why, and leads back. What a page shows, and what a change does, is for
the modules of the pages.
"""

import secrets
from collections.abc import Callable, Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from royalty_assets.audit.receipts import ReceiptError
from royalty_assets.desk.apply import Applying
from royalty_assets.desk.forms import (
    TOLD_COOKIE,
    WHO_COOKIE,
    address_of,
    back_url,
    from_cookie,
    sentence,
    text_of,
    url_of,
)
from royalty_assets.desk.guard import FORM_TOKEN, form_token, token_is_right
from royalty_assets.domain.adjudication import AdjudicationError
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.storage.lake import LakeError
from royalty_assets.storage.registry import RegistryConflictError

_TOLD = (AdjudicationError, LakeError, ReceiptError, RegistryConflictError, StageBlockedError)
"""What says itself what is wrong, and what to do."""


class RefusedError(Exception):
    """What is not done or not there: what to show, and the status."""

    def __init__(self, told: str, status: int = 400) -> None:
        super().__init__(told)
        self.status = status


class Pages:
    """Renders pages, and lets forms act.

    Args:
        applying: the run that decisions are applied by; every page says whether it is under way.
        words: what templates may use besides what each page is given.
    """

    def __init__(self, applying: Applying, words: Mapping[str, object]) -> None:
        self._applying = applying
        self._secret = secrets.token_bytes(32)
        self._environment = Environment(
            loader=PackageLoader("royalty_assets.desk"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["sentence"] = sentence
        self._environment.globals |= {"url_of": url_of, **words}

    def page(self, request: Request, name: str, status: int = 200, **content: object) -> Response:
        """A template, with what every page shows."""
        notice = from_cookie(request, TOLD_COOKIE)
        page = self._environment.get_template(name).render(
            csrf=form_token(self._secret, request),
            who=from_cookie(request, WHO_COOKIE),
            here=address_of(request, content),
            notice=notice,
            is_running=self._applying.look().is_running,
            **content,
        )
        response = HTMLResponse(page, status)
        if notice:
            response.delete_cookie(TOLD_COOKIE)
        return response

    async def show(
        self, request: Request, make: Callable[[], Response], back: str = "/"
    ) -> Response:
        """What ``make`` makes of stored tables, or why there is nothing to be shown."""
        try:
            return await run_in_threadpool(make)
        except RefusedError as error:
            status, told = error.status, str(error)
        except _TOLD as error:
            status, told = 409, str(error)
        return self.page(request, "refused.html", status, told=told, back=back)

    async def change(
        self,
        request: Request,
        change: Callable[[FormData], Response],
        form: FormData | None = None,
    ) -> Response:
        """What a form does, or why it does nothing."""
        form = await request.form(max_files=0) if form is None else form
        sent = form
        if not token_is_right(self._secret, request, text_of(sent, FORM_TOKEN)):
            told = "This page is from before the desk was started again. Go back and reload it."
            return self.page(request, "refused.html", 403, told=told, back=back_url(sent))
        return await self.show(request, lambda: change(sent), back_url(sent))
