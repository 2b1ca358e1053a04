"""Everything that a task says is text: the same hostile strings through all that we draw."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest

from ipyasyncresult.client.loadbalanced import LoadBalancedView
from ipyasyncresult.client.reprs import client_html, view_html
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.tables import html_table, shown, text_table
from ipyasyncresult.display.model import LiveModel, state_of
from ipyasyncresult.display.presenter import DisplayPresenter
from ipyasyncresult.display.reprs import result_html, result_text
from ipyasyncresult.testing import FakeClient

CORPUS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" style="position:fixed" onfocus="alert(1)" autofocus="',
    "</title></svg><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "<!-- --><iframe srcdoc='<script>alert(1)</script>'>",
    "javascript:alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<details open ontoggle=alert(1)>",
    "\x00\x01\x08\x1b[31mred\x1b]8;;http://x\x07link",
    "\ud800\udfff lone surrogates",
    "\u202eright to left\u202c \u2028\u2029",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} %s {0}",
    "$\\href{javascript:alert(1)}{x}$ [x](javascript:alert(1))",
    "a" * 100_000,
    "\n\r\n" * 50,
]

ALLOWED = {"div", "b", "span", "details", "summary", "pre", "table", "tr", "td", "th"}


class Page(HTMLParser):
    """Fails on a tag or an attribute that is not ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {"class", "style"}, attrs
        for _, value in attrs:
            assert "alert" not in (value or "")

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data!r}")


class Hostile(Exception):
    pass


def hostile_result(text: str) -> AsyncResult:
    client = FakeClient()
    result = client.submit(text, 3, label=text)
    failed, running, lost = result.msg_ids
    client.output(failed, "stdout", text + "\n")
    client.output(failed, "display_data", {"text/plain": text, "text/html": text})
    client.output(failed, "stderr", text)
    client.fail(failed, Hostile(text), engine=0, inputs=f"f({text!r})")
    client.start(running, 1)
    client.output(running, "stderr", text)
    client.clock.advance(1)
    client.lose(lost, engine=0)
    return result


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_hostile_text_stays_text_wherever_it_is_drawn(text: str) -> None:
    result = hostile_result(text)
    Page(result_html(result))
    Page(result_html(result, "interrupted"))
    assert len(result_html(result)) < 30_000
    result_text(result).encode()
    picture = DisplayPresenter().timeline(result)
    ET.fromstring(picture._repr_svg_())
    tags = {
        element.tag.rpartition("}")[2] for element in ET.fromstring(picture._repr_svg_()).iter()
    }
    assert tags <= {"svg", "title", "rect", "text", "path"}
    Page(result.metadata._repr_html_())
    for one in result.metadata:
        Page(one._repr_html_())
    Page(html_table(text, (text,), [(text, [text])]))
    text_table([(text, text)]).encode()


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_the_state_of_the_widget_is_plain_bounded_text(text: str) -> None:
    model = LiveModel(hostile_result(text))
    state = state_of(model.look())
    encoded = json.dumps(state, allow_nan=False)
    encoded.encode()
    assert len(encoded) < 20_000
    for said in strings(state):
        said.encode()  # no lone surrogates: they would end the connection to the page
        assert not any(character < " " and character != "\n" for character in said)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for one in value.values() for text in strings(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in strings(one)]
    return []


def test_a_value_whose_repr_raises_is_named() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert shown(Broken()) == "<Broken: ValueError>"


def test_clients_and_views_show_hostile_names_as_text() -> None:
    class Named(FakeClient):
        closed = False

        def __repr__(self) -> str:
            return CORPUS[0]

    client: Any = Named()
    Page(client_html(client))
    client.engines = {0: {"pid": CORPUS[1], "since": 0.0, "stopped": True}, 1: {"up": False}}
    page = client_html(client)
    Page(page)
    assert "stopped" in page
    assert "restarting" in page
    view = LoadBalancedView(client)
    view.label = CORPUS[2]
    Page(view_html(view))
