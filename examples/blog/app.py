"""The shop's journal: a WSGI application (PEP 3333) of the standard library alone, served by Gunicorn."""

import html
import os

POD = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME", "this machine")
TITLE = os.environ.get("BLOG_TITLE", "Journal")
POSTS = os.environ.get("BLOG_POSTS", "/etc/blog/posts")
BODY_BYTES_MAX = 1 << 20
STYLE = (
    "body{font:18px/1.6 Georgia,serif;max-width:38rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "a{color:#a40}footer{margin-top:3rem;color:#777;font-size:.85rem}"
)


def posts():
    """Files of a ConfigMap, one post each: the first line is its title. Read at every request: they may change."""
    try:
        names = sorted(name for name in os.listdir(POSTS) if not name.startswith("."))
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        with open(os.path.join(POSTS, name), encoding="utf-8") as file:
            title, _, text = file.read().partition("\n")
        found[name.removesuffix(".txt")] = (title, text.strip())
    return found


def page(title, body):
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>{body}"
        f"<footer>Answered by {html.escape(POD)}, process {os.getpid()}.</footer></html>\n"
    ).encode()


def index():
    links = "".join(
        f"<li><a href='/posts/{html.escape(name)}'>{html.escape(title)}</a></li>" for name, (title, _) in posts().items()
    )
    return page(TITLE, f"<ul>{links}</ul>")


def post(name):
    if name not in posts():
        return None
    title, text = posts()[name]
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
    return page(title, paragraphs + "<p><a href='/'>All posts</a></p>")


def answer(method, path, body):
    """Status, content type and content."""
    markup = "text/html; charset=utf-8"
    text = "text/plain; charset=utf-8"
    if path == "/echo" and method == "POST":
        return "200 OK", "application/octet-stream", body
    if method not in ("GET", "HEAD"):
        return "405 Method Not Allowed", text, b"this path is not asked like that\n"
    if path == "/healthz":
        return "200 OK", text, b"ok\n"
    if path == "/":
        return "200 OK", markup, index()
    found = post(path.removeprefix("/posts/")) if path.startswith("/posts/") else None
    if found is None:
        return "404 Not Found", text, b"there is no such page\n"
    return "200 OK", markup, found


def read_body(environ):
    body = environ["wsgi.input"].read(BODY_BYTES_MAX + 1)
    return body if len(body) <= BODY_BYTES_MAX else None


def application(environ, start_response):
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
    body = read_body(environ) if method == "POST" else b""
    if body is None:
        status, kind, content = "413 Content Too Large", "text/plain; charset=utf-8", b"the content is too long\n"
    else:
        status, kind, content = answer(method, path, body)
    headers = [("Content-Type", kind), ("Content-Length", str(len(content))), ("X-Pod", POD)]
    start_response(status, headers)
    return [b"" if method == "HEAD" else content]
