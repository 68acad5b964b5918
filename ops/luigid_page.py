"""luigid's web pages as this project serves them: nothing on them comes from anywhere else.

luigi's pages ask font and script hosts of the internet, which tells those who looks at what, and
where there is no internet they come late or half. What they ask for outside is taken out of pages
and styles, and a Content-Security-Policy has the browser ask for nothing that slipped through. The
chart of `/tasklist/NAME` needs such a script: its address leads to the list of the same runs. A
path of its own tells whose luigid it is (`ops.service.card`).
"""

import re
from collections.abc import Generator
from pathlib import Path

import tornado.httputil
import tornado.template
import tornado.web

from ops.service import CARD_PATH, card

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_IMPORT = re.compile(rb"@import\s+(?:url\()?[\"']?(?:https?:)?//[^;]*;")
_TAG = re.compile(
    r"<script[^>]*\ssrc=[\"'](?:https?:)?//[^>]*>\s*</script>"
    r"|<link[^>]*\shref=[\"'](?:https?:)?//[^>]*>"
)


def make_own(app: tornado.web.Application) -> tornado.web.Application:
    """Luigi's application, with what is said above."""
    static = {"path": app.settings["static_path"]}
    app.add_handlers(
        ".*",
        [
            (re.escape(CARD_PATH), _Card),
            (r"/static/(.*\.css)", _Style, static),
            (r"/tasklist/(.+)", _RunsOfATask),
        ],
    )
    app.settings["template_loader"] = _Templates(_folder_of_templates())
    app.transforms.append(_WithPolicy)
    return app


def _folder_of_templates() -> str:
    import luigi.server

    return str(Path(luigi.server.__file__).with_name("templates"))


class _WithPolicy(tornado.web.OutputTransform):
    """Every answer says what a browser may fetch for it."""

    def __init__(self, request: tornado.httputil.HTTPServerRequest) -> None:
        pass

    def transform_first_chunk(
        self,
        status_code: int,
        headers: tornado.httputil.HTTPHeaders,
        chunk: bytes,
        _finishing: bool,
    ) -> tuple[int, tornado.httputil.HTTPHeaders, bytes]:
        headers["Content-Security-Policy"] = POLICY
        headers["Referrer-Policy"] = "no-referrer"
        return status_code, headers, chunk


class _Templates(tornado.template.Loader):
    """Luigi's pages without what they fetch from outside."""

    def _create_template(self, name: str) -> tornado.template.Template:
        text = Path(self.root, name).read_text(encoding="utf-8")
        return tornado.template.Template(_TAG.sub("", text), name=name, loader=self)


class _Style(tornado.web.StaticFileHandler):
    """A style sheet without what it imports from outside."""

    @classmethod
    def get_content(
        cls, abspath: str, start: int | None = None, end: int | None = None
    ) -> Generator[bytes, None, None]:
        yield _IMPORT.sub(b"", Path(abspath).read_bytes())[start:end]

    def get_content_size(self) -> int:
        return sum(map(len, self.get_content(self.absolute_path or "")))


class _RunsOfATask(tornado.web.RequestHandler):
    def get(self, name: str) -> None:
        self.redirect(f"/history/by_name/{name}")


class _Card(tornado.web.RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.write(card())
