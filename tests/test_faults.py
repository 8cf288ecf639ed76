"""The fault server does what it says, down to the wire, since other tests rely on its faults."""

import gzip
import json
import math
import socket
import struct
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from dialect_answers import ERROR_BODIES, score
from faults import (
    CloseIdle,
    CloseMidBody,
    CloseOnReuse,
    Drip,
    EchoKey,
    Edited,
    FaultServer,
    GzipBomb,
    Gzipped,
    HalfJson,
    Hang,
    Html,
    HugeBody,
    MaxInFlight,
    NoContentLength,
    RateLimited,
    Redirect,
    ResetBefore,
    ResetMidBody,
    Right,
    Slow,
    Status,
    TooLarge,
    WrongEncoding,
)

QUERY = "where is the dog"
TEXTS = ["the dog is in my house", "he likes dog", "bread is baked", "kaffee für zwei"]
BODY = {"model": "jina-reranker-v2-base-multilingual", "query": QUERY, "documents": TEXTS}
RANKING = sorted(enumerate(score(QUERY, text) for text in TEXTS), key=lambda hit: -hit[1])
RESULTS = [{"index": i, "relevance_score": s, "document": TEXTS[i]} for i, s in RANKING]
USAGE = {"total_tokens": 19}
PAYLOAD = {"model": BODY["model"], "object": "list", "usage": USAGE, "results": RESULTS}
RIGHT = json.dumps(PAYLOAD, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def client(server: FaultServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def rerank(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/rerank", json=BODY | fields)


def connect(server: FaultServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=10)


def ask(connection: socket.socket, header: str = "Host: x") -> None:
    body = json.dumps(BODY).encode()
    head = f"POST /v1/rerank HTTP/1.1\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def read_answer(connection: socket.socket) -> tuple[bytes, int, bytes]:
    """Read the head, the length that it promises, and what comes of that."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += connection.recv(1)
    head = seen.removesuffix(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length and (data := connection.recv(length - len(body))):
        body += data
    return head, length, body


def hits(
    results: list[dict[str, float]], key: str = "relevance_score"
) -> list[tuple[float, float]]:
    return [(result["index"], result[key]) for result in results]


def test_other_addresses(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/v1/models").json()["data"][0]["id"]
    assert client.get("/v1/rerank").status_code == 405
    assert client.post("/v1/embeddings", json=BODY).status_code == 404


def test_shapes(server: FaultServer, client: httpx.Client) -> None:
    server.script(
        Right(document="absent", order="given", drop=("object", "usage")),
        Right(document="object", order="shuffled", extra={"cost": 1}, result_extra={"note": 2}),
        Right(document="string", headers={"x-ratelimit-remaining-requests": "7"}),
    )
    given = rerank(client).json()
    assert given.keys() == {"model", "results"}
    assert hits(given["results"]) == sorted(RANKING)
    assert "document" not in given["results"][0]

    shuffled = rerank(client, return_documents=False).json()
    assert sorted(hits(shuffled["results"])) == sorted(RANKING) != hits(shuffled["results"])
    assert hits(shuffled["results"]) != RANKING
    assert (shuffled["cost"], shuffled["results"][0]["note"]) == (1, 2)
    assert all(r["document"] == {"text": TEXTS[r["index"]]} for r in shuffled["results"])

    told = rerank(client, return_documents=False, documents=[{"text": text} for text in TEXTS])
    assert all(r["document"] == TEXTS[r["index"]] for r in told.json()["results"])
    assert told.headers["x-ratelimit-remaining-requests"] == "7"


def test_who_gets_which_fault(server: FaultServer, client: httpx.Client) -> None:
    def statuses(n: int) -> list[int]:
        return [rerank(client, user=i).status_code for i in range(n)]

    server.script(Status(500), Status(503))
    server.default = Status(418)
    assert statuses(3) == [500, 503, 418]
    server.script(Status(500), Status(503))
    server.choose = lambda request: Right() if request.json["user"] else Status(400)
    assert statuses(2) == [400, 200]
    assert [request.json["user"] for request in server.requests] == [0, 1, 2, 0, 1]
    assert (server.received, server.connections, server.most_in_flight) == (5, 1, 1)
    assert [request.connection for request in server.requests] == [1] * 5
    started = [request.started for request in server.requests]
    assert started == sorted(started)

    before = server.requests
    server.reset()
    server.choose = None
    assert (len(before), server.requests, server.received, server.connections) == (5, [], 0, 0)
    assert statuses(1) == [418]
    server.record = False
    assert statuses(1) == [418]
    assert (len(server.requests), server.received, server.open_connections) == (1, 2, 1)


def test_a_request_as_it_was_seen(server: FaultServer, client: httpx.Client) -> None:
    content = b'{"query": "q", "texts": ["' + b"x" * 20_000_000 + b'"]}'
    answer = client.post("/rerank", content=content, headers={"X-Trace": "abc"})
    assert hits(answer.json(), "score") == [(0, score("q", "x" * 20_000_000))]
    [seen] = server.requests
    assert (seen.method, seen.path, seen.headers["x-trace"]) == ("POST", "/rerank", "abc")
    assert seen.body == content


def test_open_connections_after_the_client_left(server: FaultServer) -> None:
    server.default = Hang()
    clients = [connect(server) for _ in range(6)]
    for busy in clients[:4]:
        ask(busy)
    assert (server.open_connections, server.in_flight, server.connections) == (6, 4, 6)
    clients[0].close()
    clients[4].close()
    assert (server.open_connections, server.in_flight) == (4, 3)
    for leaving in (clients[1], clients[5]):
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.close()
    assert (server.open_connections, server.in_flight) == (2, 2)
    for last in clients[2:4]:
        last.close()
    assert (server.open_connections, server.in_flight, server.most_in_flight) == (0, 0, 4)
    assert server.connections == 6


def test_leaving_the_server_ends_what_still_runs() -> None:
    with FaultServer() as server:
        server.script(Hang(), HugeBody(1000))
        hanging, flooded, idle = connect(server), connect(server), connect(server)
        ask(hanging)
        assert server.in_flight == 1
        ask(flooded)
        assert server.in_flight == 2
    assert (server.open_connections, server.in_flight) == (0, 0)
    with hanging, flooded, idle:
        assert hanging.recv(1) == idle.recv(1) == b""


def test_what_goes_wrong_in_the_server_is_not_lost() -> None:
    def leave_after(error: Exception | None) -> None:
        with FaultServer() as server:
            server.default = Edited(lambda payload: payload["no such key"])
            with pytest.raises(httpx.ReadError):
                httpx.post(f"{server.url}/v1/rerank", json=BODY, trust_env=False)
            if error is not None:
                raise error

    with pytest.raises(KeyError, match="no such key"):
        leave_after(None)
    with pytest.raises(ValueError, match="first") as raised:
        leave_after(ValueError("first"))
    assert "no such key" in raised.value.__notes__[0]


def test_status(server: FaultServer, client: httpx.Client) -> None:
    server.script(*(Status(500, body, {"retry-after": "3"}) for body in ERROR_BODIES.values()))
    for name, body in ERROR_BODIES.items():
        answer = rerank(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (500, "3"), name
        assert (answer.text if isinstance(body, str) else answer.json()) == body, name
        assert ("told by the service" in answer.text) is (name not in {"html", "empty"}), name
    server.script(Status(500, b"\xff"), Status(500))
    assert rerank(client).content == b"\xff"
    assert rerank(client).content == b""


def test_rate_limits(server: FaultServer, client: httpx.Client) -> None:
    server.default = RateLimited(for_requests=2, retry_after="1")
    refused = rerank(client)
    assert refused.json()["code"] == "RATE_REQUEST_LIMIT_EXCEEDED"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert [rerank(client).status_code for _ in range(3)] == [429, 200, 200]
    server.default = RateLimited("tokens")
    assert "tokens per minute" in rerank(client).json()["detail"]
    assert "retry-after" not in rerank(client).headers
    tei = client.post("/rerank", json={"query": QUERY, "texts": TEXTS})
    assert tei.json() == {"error": "Model is overloaded", "error_type": "Overloaded"}


def test_max_in_flight_admits_exactly_so_many(server: FaultServer) -> None:
    server.default = MaxInFlight(3, then=Hang(), retry_after="1")
    clients = [connect(server) for _ in range(8)]
    for client in clients:
        ask(client)
    assert (server.in_flight, server.most_in_flight) == (3, 4)
    server.default = MaxInFlight(3)
    statuses = []
    for client in clients[3:]:
        head, _, body = read_answer(client)
        statuses.append(head.split()[1])
        assert json.loads(body)["code"] == "RATE_CONCURRENCY_LIMIT_EXCEEDED"
        assert b"retry-after: 1" in head
    assert statuses == [b"429"] * 5
    clients[0].close()
    assert server.in_flight == 2
    ask(clients[7])
    assert read_answer(clients[7])[0].startswith(b"HTTP/1.1 200 ")
    for client in clients:
        client.close()


def test_too_large(server: FaultServer, client: httpx.Client) -> None:
    server.default = TooLarge(max_documents=32, status=422)
    answer = client.post("/rerank", json={"query": QUERY, "texts": ["a"] * 33})
    assert answer.status_code == 422
    assert answer.json()["error"] == "batch size 33 > maximum allowed batch size 32"
    assert client.post("/rerank", json={"query": QUERY, "texts": ["a"] * 32}).is_success
    assert rerank(client, documents=["a"] * 33).json()["errors"][0]["field"] == "body -> documents"
    body = json.dumps(BODY).encode()
    server.default = TooLarge(max_bytes=len(body))
    assert client.post("/v1/rerank", content=body).is_success
    assert client.post("/v1/rerank", content=body + b" ").status_code == 413
    server.default = TooLarge(max_documents=3, status=504)
    assert rerank(client).json()["detail"]["code"] == "SERVICE_TIMEOUT"


def test_answers_that_are_no_answers(server: FaultServer, client: httpx.Client) -> None:
    def spoil(payload):
        payload["results"][0]["relevance_score"] = float("nan")
        payload["results"][1]["relevance_score"] = -math.inf
        return payload

    server.script(
        Edited(spoil),
        HalfJson(),
        Html(524),
        WrongEncoding(),
        WrongEncoding("utf-16"),
        EchoKey(),
        Redirect("http://127.0.0.1:1/elsewhere", 308),
    )
    text = rerank(client).text
    assert '"relevance_score":NaN' in text
    assert '"relevance_score":-Infinity' in text
    with pytest.raises(json.JSONDecodeError):
        rerank(client).json()
    page = rerank(client)
    assert (page.status_code, page.headers["content-type"]) == (524, "text/html; charset=UTF-8")
    for encoding in ("latin-1", "utf-16"):
        content = rerank(client).content
        with pytest.raises(UnicodeDecodeError):
            content.decode()
        assert hits(json.loads(content.decode(encoding))["results"]) == RANKING
    echo = client.post("/v1/rerank", json=BODY, headers={"Authorization": "Bearer jina_secret"})
    assert (echo.status_code, "Bearer jina_secret" in echo.text) == (401, True)
    redirect = rerank(client)
    assert (redirect.status_code, redirect.next_request.url.path) == (308, "/elsewhere")


def test_packed_answers(server: FaultServer, client: httpx.Client) -> None:
    server.script(Gzipped(), NoContentLength(), GzipBomb(20), HugeBody(20), HugeBody(20, True))
    with client.stream("POST", "/v1/rerank", json=BODY) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert hits(json.loads(gzip.decompress(b"".join(answer.iter_raw())))["results"]) == RANKING
    chunked = rerank(client)
    assert "content-length" not in chunked.headers
    assert hits(chunked.json()["results"]) == RANKING
    bomb = rerank(client)
    assert len(bomb.content) == 20 * 2**20 > 900 * int(bomb.headers["content-length"])
    for declared in (False, True):
        huge = rerank(client)
        assert len(huge.content) == 20 * 2**20
        assert ("content-length" in huge.headers) is declared


def test_a_huge_body_ends_when_the_client_leaves(server: FaultServer) -> None:
    server.default = HugeBody(100)
    with connect(server) as client:
        ask(client)
        assert len(client.recv(1000)) > 0
        assert all(server.in_flight == 1 for _ in range(20))
    assert (server.in_flight, server.open_connections, server.most_in_flight) == (0, 0, 1)
    server.reset()
    assert server.most_in_flight == 0


def test_slow_and_drip(server: FaultServer) -> None:
    server.script(Slow(0.1), Drip(0.01, 20, Status(500, "x" * 100)))
    with connect(server) as client:
        started = time.monotonic()
        ask(client)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 200 OK")
        assert time.monotonic() - started >= 0.1
        started = time.monotonic()
        ask(client)
        assert read_answer(client)[1:] == (100, b"x" * 100)
        assert time.monotonic() - started >= 0.05


def test_connections_that_break(server: FaultServer) -> None:
    server.script(ResetBefore(), ResetMidBody(), CloseMidBody())
    with connect(server) as client:
        ask(client)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(server) as client:
        ask(client)
        # Even a client that looks late finds the half that was sent before the reset.
        assert server.open_connections == 0
        head, _, body = client.recv(10_000).partition(b"\r\n\r\n")
        assert f"content-length: {len(RIGHT)}".encode() in head
        assert body == RIGHT[: len(RIGHT) // 2]
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(server) as client:
        ask(client)
        assert read_answer(client)[1:] == (len(RIGHT), RIGHT[: len(RIGHT) // 2])
        assert client.recv(1) == b""


def test_connections_that_are_kept(server: FaultServer) -> None:
    server.script(Status(418))
    with connect(server) as client:
        ask(client)
        ask(client)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 418 ")
        assert read_answer(client)[2] == RIGHT
        assert server.connections == 1
        ask(client, "Connection: close")
        assert read_answer(client)[2] == RIGHT
        assert client.recv(1) == b""
    server.script(Status(500, headers={"connection": "close"}))
    with connect(server) as client:
        ask(client)
        assert b"connection: close" in read_answer(client)[0]
        assert client.recv(1) == b""


def test_connections_that_are_closed_between_requests(server: FaultServer) -> None:
    server.script(CloseIdle(), CloseOnReuse(), Status(418))
    with connect(server) as client:
        ask(client)
        assert read_answer(client)[2] == RIGHT
        assert client.recv(1) == b""
    with connect(server) as client:
        ask(client)
        assert read_answer(client)[2] == RIGHT
        assert server.open_connections == 1
        ask(client)
        assert client.recv(1) == b""
    with connect(server) as client:
        ask(client)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 418")
    assert [request.connection for request in server.requests] == [1, 2, 2, 3]
