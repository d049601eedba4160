"""What forms, cookies and addresses of the desk say."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote_plus, unquote_plus, urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from royalty_assets.desk.queue import Filters
from royalty_assets.domain.adjudication import Action, Decision, State

WHO_COOKIE = "desk_who"
TOLD_COOKIE = "desk_told"
_NUMBER_DIGITS_MAX = 10


def address_of(request: Request, content: Mapping[str, object]) -> str:
    """The page's own address; of an answer to a form, that of the page that it was on."""
    if request.method == "POST":
        return str(content.get("back", "/"))
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def text_of(form: FormData, name: str) -> str:
    """A field of a form, without spaces around it; empty if it is not there."""
    value = form.get(name, "")
    if not isinstance(value, str):
        return ""
    # A subject is exactly what it is; what people type has spaces around it.
    return value if name == "subject" else value.strip()


def number_of(text: str | None, otherwise: int) -> int:
    """A whole number that people write, or another one."""
    is_number = text and text.isdecimal() and len(text) < _NUMBER_DIGITS_MAX
    return int(text) if text and is_number else otherwise


def from_cookie(request: Request, name: str) -> str:
    """A text that was put into a cookie; empty if there is none."""
    return unquote_plus(request.cookies.get(name, ""))


def who_decides(request: Request, form: FormData) -> str:
    """Who decides: the name that stands in the page, saved or not."""
    return text_of(form, "who_typed") or from_cookie(request, WHO_COOKIE)


def seen_number(text: str) -> int | None:
    """The number of a decision that a page was made after; None for none."""
    return int(text) if text.isdecimal() and len(text) < _NUMBER_DIGITS_MAX else None


def onwards(form: FormData, taken: Sequence[Decision]) -> RedirectResponse:
    """To the next question after a decision that settles one, else back to where it came from."""
    settles = all(d.action in {Action.ACCEPT, Action.REJECT, Action.DEFER} for d in taken)
    url = text_of(form, "next")
    return RedirectResponse(own_url(url), 303) if settles and url else back(form)


def filters_of(query: Mapping[str, str]) -> Filters:
    """The filters in an address."""
    return Filters(
        query.get("state", State.OPEN),
        query.get("kind", ""),
        query.get("feed", ""),
        query.get("q", "")[:200],
    )


def page_url(path: str, filters: Filters, **more: object) -> str:
    """A page's address with the filters in it, so that the way back leads to the same list."""
    query = {"state": filters.state, "kind": filters.kind, "feed": filters.feed, "q": filters.text}
    return f"{path}?{urlencode(query | {k: str(v) for k, v in more.items()})}"


def back_url(form: FormData) -> str:
    """Where a form came from."""
    return own_url(text_of(form, "back"))


def own_url(url: str) -> str:
    """An address of the desk's; of anything else, the queue's."""
    is_own = url.startswith("/") and not url.startswith(("//", "/\\"))
    return url if is_own and url.isprintable() else "/"


def back(form: FormData) -> RedirectResponse:
    """Back to where a form came from."""
    return RedirectResponse(back_url(form), 303)


def with_notice(response: Response, told: str) -> Response:
    """The answer, with a word that the next page shows."""
    response.set_cookie(
        TOLD_COOKIE, quote_plus(told[:1500]), samesite="strict", httponly=True, max_age=60
    )
    return response


def url_of(path: str, **query: object) -> str:
    """An address of the desk's, with those parts of a query that say something."""
    said = {name: str(value) for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(said)}" if said else path
