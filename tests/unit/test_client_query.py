"""Which tasks a query finds."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ipyasyncresult.client.query import compile_query

ROWS: list[dict[str, Any]] = [
    {"msg_id": "a", "status": "ok", "duration": 0.5, "label": "night", "submitted": 100.0},
    {"msg_id": "b", "status": "error", "duration": 2.0, "label": None, "submitted": 200.0},
    {"msg_id": "c", "status": "pending", "duration": None, "label": "noon", "submitted": 300.0},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (None, "abc"),
        ({}, "abc"),
        ({"status": "ok"}, "a"),
        ({"status": "ok", "duration": 7}, ""),
        ({"duration": {"$gt": 0.5}}, "b"),
        ({"duration": {"$gte": 0.5}}, "ab"),
        ({"duration": {"$lt": 2, "$gt": 0}}, "a"),
        ({"duration": {"$lte": 2}}, "ab"),
        ({"status": {"$in": ["ok", "pending"]}}, "ac"),
        ({"status": {"$nin": ["ok", "pending"]}}, "b"),
        ({"status": {"$ne": "ok"}}, "bc"),
        ({"status": {"$eq": "ok"}}, "a"),
        ({"label": {"$exists": True}}, "ac"),
        ({"label": {"$exists": False}}, "b"),
        ({"label": {"$regex": "^n.g"}}, "a"),
        ({"submitted": {"$mod": [200, 100]}}, "ac"),
        ({"submitted": {"$gt": dt.datetime.fromtimestamp(150, dt.UTC)}}, "bc"),
        ({"nothing": None}, "abc"),
        ({"nothing": {"$gt": 1}}, ""),
    ],
)
def test_what_a_query_finds(query: dict[str, Any] | None, found: str) -> None:
    fits = compile_query(query)
    assert "".join(row["msg_id"] for row in ROWS if fits(row)) == found


def test_an_unknown_operator_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"\$gt.*not '\$near'"):
        compile_query({"status": {"$near": 1}})
