"""What keeps other pages in the same browser from deciding: cookies, tokens and headers.

The desk listens on this machine alone unless its command is told which proxy is in front. A page of
another site can still send forms to it, so every form carries a token that only the desk's own
pages have, and nothing is accepted that another origin sent. Names are claimed, not proved: put an
authenticating proxy in front to prove them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

SESSION_COOKIE = "desk_session"
FORM_TOKEN = "csrf"  # noqa: S105 - the name of a field
BODY_BYTES_MAX = 21 << 20
"""Of a form: a spreadsheet of decisions and a little more, before any of it is read."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard(BaseHTTPMiddleware):
    """Gives each browser a session, and refuses what did not come from the desk's own pages."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Check the request, pass it on, and add what every answer carries."""
        origin = request.headers.get("origin")
        if request.method not in {"GET", "HEAD"}:
            own = f"{request.url.scheme}://{request.headers.get('host', '')}"
            if origin not in {own, None} or request.headers.get("sec-fetch-site") == "cross-site":
                return _refused("This form was sent by another site.", 403)
            length = request.headers.get("content-length", "")
            if not length.isdecimal() or len(length) > 12:
                return _refused("A form says how long it is.", 411)
            if int(length) > BODY_BYTES_MAX:
                return _refused("This form is larger than the desk takes.", 413)
        session = request.cookies.get(SESSION_COOKIE, "")
        request.state.session = session or secrets.token_urlsafe(32)
        response = await call_next(request)
        if not session:
            response.set_cookie(
                SESSION_COOKIE, request.state.session, httponly=True, samesite="strict",
                secure=request.url.scheme == "https",
            )  # fmt: skip
        response.headers.update(HEADERS)
        return response


def _refused(told: str, status: int) -> Response:
    return PlainTextResponse(told, status, headers=HEADERS)


def form_token(secret: bytes, request: Request) -> str:
    """The token of this browser's forms."""
    session = str(request.state.session)
    return hmac.new(secret, session.encode(), hashlib.sha256).hexdigest()


def token_is_right(secret: bytes, request: Request, token: str) -> bool:
    """Whether a form came from one of the desk's own pages in this browser."""
    return hmac.compare_digest(form_token(secret, request).encode(), token.encode())
