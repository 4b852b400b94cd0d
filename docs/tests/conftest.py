"""The built site on the loopback, and a headless Chromium to look at it."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
NO_BROWSER = (
    "No Chromium was found. Install one, by `apt-get install chromium`, by `brew install --cask "
    "chromium` or by `.venv/bin/python -m playwright install chromium`, or let the environment "
    "variable CHROMIUM name one."
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def serve():
    """A function that serves a folder on a free port of the loopback, and returns the address."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=folder)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="session")
def folder():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        pytest.exit(f"There is no built site in {SITE}: run `make docs`.", returncode=1)
    return SITE


@pytest.fixture(scope="session")
def site(serve, folder):
    """The address of the built site."""
    return serve(folder)


@pytest.fixture(scope="session")
def chromium():
    """The browser: that of CHROMIUM, of the path, or of playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        given = os.environ.get("CHROMIUM")
        found = given or next(filter(None, map(shutil.which, BROWSERS)), None)
        found = found or playwright.chromium.executable_path
        if not Path(found).exists():
            pytest.exit(NO_BROWSER, returncode=1)
        # Chromium's sandbox refuses to run as root, as in most containers.
        args = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=args)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, site):
    """A function that opens a page of the site at a width and in a theme."""
    contexts = []

    def open_at(width, theme, **options):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        contexts.append(context)
        context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        return context.new_page()

    yield open_at
    for context in contexts:
        context.close()
