"""Bodies that are many, unfinished or full of small values take a bounded amount of memory."""

from __future__ import annotations

import json
import socket
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving import LiveService, until

from jina_rerank.server.limits import (
    BODIES_AT_ONCE,
    LEAST_MAX_VALUES,
    SMALL_BODY,
    Bodies,
)
from jina_rerank.server.limits import _count_values as count_values
from jina_rerank.server.refusals import TooManyRequests

RIGHT = {"query": "panda", "documents": ["a bear", "coffee"]}
JSON = {"content-type": "application/json"}


def post(service: LiveService, content: bytes) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/rerank", content=content, headers=JSON, timeout=30)


def with_unread(values: str) -> bytes:
    return f'{{"query": "panda", "documents": ["a bear"], "unread": [{values}]}}'.encode()


@pytest.mark.parametrize(
    "values",
    [",".join(["{}"] * 1_000_000), ",".join(["[" * 100 + "]" * 100] * 10_000)],
    ids=["many", "nested"],
)
def test_many_values_are_refused_before_they_are_parsed(start, values: str) -> None:
    service = start()
    body = with_unread(values)
    tracemalloc.start()
    response = post(service, body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (response.status_code, response.json()["code"]) == (413, "INPUT_TOO_LARGE")
    assert f"more than {LEAST_MAX_VALUES:,} JSON values" in response.json()["detail"]
    # Parsed, each value takes 72 bytes.
    assert most < 36_000_000
    assert post(service, json.dumps(RIGHT).encode()).status_code == 200


def test_as_many_commas_in_texts_are_no_values(start) -> None:
    service = start(max_request_tokens=10_000_000, max_queued_tokens=10_000_000)
    table = '1,2,[3],{"4"},\\,' * 100_000
    assert post(service, json.dumps(RIGHT | {"documents": [table]}).encode()).status_code == 200


def test_a_string_that_does_not_end_is_searched_once(start) -> None:
    body = with_unread("," * 2 * LEAST_MAX_VALUES)[:-2] + b'"' + b'\\"' * 2_000_000
    response = post(start(), body)
    assert (response.status_code, response.json()["code"]) == (413, "INPUT_TOO_LARGE")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def values_in(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(values_in, value.values()))
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


@given(json_values)
def test_no_value_is_left_out_of_the_count(value: object) -> None:
    # Each value begins the body, its list or its object, or follows a comma.
    assert count_values(json.dumps(value, ensure_ascii=False).encode()) >= values_in(value)


def test_large_bodies_that_do_not_end_leave_room_for_small_requests(start) -> None:
    limit = 1_000_000
    service = start(max_body_bytes=limit)
    address = urlsplit(service.url)
    head = (
        f"POST /v1/rerank HTTP/1.1\r\nhost: {address.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {limit}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(BODIES_AT_ONCE):
            slow = stack.enter_context(socket.create_connection((address.hostname, address.port)))
            slow.sendall(head.encode() + b" " * (limit - 1))
        until(lambda: service.engine.bodies.bytes == BODIES_AT_ONCE * (limit - 1))
        metrics = httpx.get(f"{service.url}/metrics").text
        (shown,) = (
            family.samples[0].value
            for family in text_string_to_metric_families(metrics)
            if family.name == "jina_rerank_body_bytes"
        )
        assert shown == BODIES_AT_ONCE * (limit - 1)
        refused = post(service, json.dumps(RIGHT).encode().ljust(SMALL_BODY + 1))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "large requests" in refused.json()["detail"]
        assert post(service, json.dumps(RIGHT).encode().ljust(SMALL_BODY)).status_code == 200
    until(lambda: service.engine.bodies.bytes == 0)
    assert post(service, json.dumps(RIGHT).encode().ljust(limit)).status_code == 200


def test_a_body_counts_until_its_answer(gated, start) -> None:
    service = start()
    body = json.dumps(RIGHT).encode()
    gated.hold()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(post, service, body)
        until(lambda: service.engine.queue.requests == 1)
        assert service.engine.bodies.bytes == len(body)
        gated.release()
        assert asking.result(30).status_code == 200
    assert service.engine.bodies.bytes == 0


@given(st.lists(st.integers(0, 2 * SMALL_BODY), max_size=20), st.integers(1, 10 * SMALL_BODY))
def test_bytes_are_counted_to_the_end_and_bounded(sizes: list[int], limit: int) -> None:
    bodies = Bodies(limit)
    with ExitStack() as stack:
        for size in sizes:
            add = stack.enter_context(bodies.body())
            before = bodies.bytes
            try:
                add(size)
            except TooManyRequests:
                assert size > SMALL_BODY
                assert before + size > limit
                assert bodies.bytes == before
            else:
                assert size <= SMALL_BODY or bodies.bytes <= limit
    assert bodies.bytes == 0
