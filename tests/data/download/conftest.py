"""A server on this machine, and what it takes to get files from it."""

import pytest

from cellseg_d2.data.download import Transfer, collect

from .download_cases import CONTENT, serve


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({"a.json": CONTENT}) as running:
        yield running


@pytest.fixture
def lines():
    return []


@pytest.fixture
def get(server, tmp_path, lines):
    def get(*files, **more):
        return collect(server.url, tmp_path, files or ["a.json"], Transfer(lines.append, tries=3, pause=0), **more)

    return get
