"""Measure what callers get, and when, if a rerank service fails: ours beside other clients.

    python -m benchmarks.remote_faults

Every client meets every fault in a fresh process, and the fault comes from a server on the
loopback that is not in that process. A client is built as its documentation says, with a key and
an address, and with room for all documents; the rest is its defaults. Another one of its kind has
got a right answer before, so that no time includes an import. One call is measured at a time; one
that takes longer than PATIENCE goes on while the next are measured. Prints a Markdown table. It
takes some six minutes.
"""

from __future__ import annotations

import html
import math
import multiprocessing
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import dialect_answers as dialects
from faults import (
    CloseIdle,
    CloseOnReuse,
    Drip,
    Edited,
    FaultServer,
    GzipBomb,
    HalfJson,
    Hang,
    Html,
    RateLimited,
    Redirect,
    ResetMidBody,
    Right,
    Status,
)
from loopback import Fault

QUERY = "How fine should coffee be ground for espresso?"
DOCUMENTS = [
    "Espresso wants a fine grind, a little coarser than powder.",
    "A French press wants a coarse grind.",
    "The bridge was opened in 1974.",
    "Grind finer if the shot runs in less than 20 seconds.",
    "Tea should not be boiled.",
]
KEY = "a-key-for-the-loopback"
PACKAGES = [
    "jina-rerank",
    "llama-index-postprocessor-jinaai-rerank",
    "langchain-community",
    "jina-haystack",
    "cohere",
    "requests",
    "httpx",
]
PATIENCE = 4.0
"""Seconds that a call is measured alone."""

LIMIT = 45.0
"""Seconds after which the table says that a call is still waiting."""

BOMB = "64 MB in 64 KB of gzip, always"
SPAWN = multiprocessing.get_context("spawn")

Hits = list[tuple[int, float]]
Rank = Callable[[], Hits]
Payload = dict[str, Any]

SCORES = [dialects.score(QUERY, document) for document in DOCUMENTS]
ANSWER = Right()
RIGHT: Hits = sorted(enumerate(SCORES), key=lambda hit: -hit[1])


def jina_rerank(url: str) -> Rank:
    """This library."""
    from jina_rerank import RemoteScorer, Reranker

    reranker = Reranker(RemoteScorer(api_key=KEY, base_url=url))
    return lambda: [(hit.index, hit.score) for hit in reranker.rank(QUERY, DOCUMENTS)]


def llama_index(url: str) -> Rank:
    """LlamaIndex's integration."""
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    rerank = JinaRerank(top_n=len(DOCUMENTS), base_url=f"{url}/v1", api_key=KEY)
    nodes = [NodeWithScore(node=TextNode(id_=str(i), text=d)) for i, d in enumerate(DOCUMENTS)]

    def rank() -> Hits:
        ranked = rerank.postprocess_nodes(nodes, query_str=QUERY)
        return [(int(hit.node.node_id), hit.score or 0.0) for hit in ranked]

    return rank


def langchain(url: str) -> Rank:
    """LangChain's integration. Its address is a constant that only a patch can change."""
    from langchain_community.document_compressors import jina_rerank
    from langchain_core.documents import Document

    jina_rerank.JINA_API_URL = f"{url}/v1/rerank"
    compressor = jina_rerank.JinaRerank(top_n=len(DOCUMENTS), jina_api_key=KEY)
    documents = [Document(d, metadata={"place": i}) for i, d in enumerate(DOCUMENTS)]

    def rank() -> Hits:
        ranked = compressor.compress_documents(documents, QUERY)
        return [(hit.metadata["place"], hit.metadata["relevance_score"]) for hit in ranked]

    return rank


def haystack(url: str) -> Rank:
    """Haystack's integration."""
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(api_key=Secret.from_token(KEY), base_url=f"{url}/v1/rerank")
    documents = [Document(content=d, meta={"place": i}) for i, d in enumerate(DOCUMENTS)]

    def rank() -> Hits:
        ranked = ranker.run(query=QUERY, documents=documents)["documents"]
        return [(hit.meta["place"], hit.score) for hit in ranked]

    return rank


def cohere(url: str) -> Rank:
    """Cohere's own client, which speaks its own dialect."""
    from cohere import ClientV2

    client = ClientV2(api_key=KEY, base_url=url)

    def rank() -> Hits:
        answer = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
        return [(hit.index, hit.relevance_score) for hit in answer.results]

    return rank


CLIENTS: dict[str, Callable[[str], Rank]] = {
    "jina-rerank": jina_rerank,
    "llama-index JinaRerank": llama_index,
    "langchain JinaRerank": langchain,
    "haystack JinaRanker": haystack,
    "cohere ClientV2": cohere,
}


@dataclass(frozen=True)
class Scenario:
    """The server's behaviour.

    Attributes:
        first: To the first requests, one each.
        then: To all others; None is no server at all.
        calls: How many calls are made; the last is measured.
    """

    first: Sequence[Fault] = ()
    then: Fault | None = ANSWER
    calls: int = 1


def scenarios(client: str) -> dict[str, Scenario]:
    """Every fault by its name, in the client's dialect."""
    path = "/v2/rerank" if client.startswith("cohere") else "/v1/rerank"

    def error(status: int, body: Payload) -> Status:
        if path == "/v1/rerank":
            return Status(status, body)
        detail = body["detail"]
        message = detail if isinstance(detail, str) else detail["message"]
        return Status(status, dialects.cohere(message))

    unavailable = error(503, dialects.UNAVAILABLE)
    return {
        "a right answer, documents as strings": Scenario(then=Right(document="string")),
        "a right answer, documents as objects": Scenario(then=Right(document="object")),
        "a right answer without documents": Scenario(then=Right(document="absent")),
        "401, the key is invalid": Scenario(then=error(401, dialects.INVALID_KEY)),
        "403, the balance is used up": Scenario(then=error(403, dialects.INSUFFICIENT_BALANCE)),
        "429 once, Retry-After: 1": Scenario(first=[RateLimited(retry_after="1")]),
        "429 always, Retry-After: 600": Scenario(then=RateLimited(retry_after="600")),
        "503 once": Scenario(first=[unavailable]),
        "503 always": Scenario(then=unavailable),
        "502 always, an HTML page": Scenario(then=Html(502)),
        "200 always, an HTML page": Scenario(then=Html(200)),
        "half of the JSON, always": Scenario(then=HalfJson()),
        "connection reset in mid-answer, once": Scenario(first=[ResetMidBody()]),
        "connection reset in mid-answer, always": Scenario(then=ResetMidBody()),
        "connection closed while idle, second call": Scenario(first=[CloseIdle()], calls=2),
        "connection closed on the second call": Scenario(first=[CloseOnReuse()], calls=2),
        "307 to another path of the same host": Scenario(first=[Redirect(f"/elsewhere{path}")]),
        BOMB: Scenario(then=GzipBomb(64)),
        "the best result is missing": Scenario(then=Edited(_drop_best)),
        "one index twice": Scenario(then=Edited(_repeat_best)),
        "a score is NaN": Scenario(then=Edited(_spoil_best)),
        "no answer at all": Scenario(then=Hang()),
        "one byte every second": Scenario(then=Drip(interval=1.0)),
        "connection refused": Scenario(then=None),
    }


def _drop_best(payload: Payload) -> Payload:
    return payload | {"results": payload["results"][1:]}


def _repeat_best(payload: Payload) -> Payload:
    payload["results"][1]["index"] = payload["results"][0]["index"]
    return payload


def _spoil_best(payload: Payload) -> Payload:
    payload["results"][0]["relevance_score"] = math.nan
    return payload


@dataclass(frozen=True)
class Outcome:
    """Outcome of a call.

    Attributes:
        what: In words, as Markdown; for an error its type, a line break and its message.
        seconds: How long it took.
        megabytes: What it added to the peak of the process.
    """

    what: str
    seconds: float
    megabytes: float


def call(pipe: Connection, client: str, warm_url: str, url: str, calls: int) -> None:
    """Build a client, wait until told to go, and report the outcome; in a process of its own."""
    CLIENTS[client](warm_url)()
    rank = CLIENTS[client](url)
    pipe.send("ready")
    pipe.recv()
    for _ in range(calls - 1):
        rank()
        time.sleep(0.2)  # for a FIN to arrive, and no longer than clients keep connections
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    try:
        what = describe(rank())
    except Exception as error:  # noqa: BLE001 - whatever it is, that is what callers get
        what = describe_error(error, url)
    seconds = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    pipe.send(Outcome(what, seconds, grown / 1024))


def describe(hits: Hits) -> str:
    """Tell whether a ranking is the right one, and what is wrong with it."""
    if hits == RIGHT:
        return "right ranking"
    indices = [index for index, _ in hits]
    if len(set(indices)) < len(indices):
        problem = "a document twice, another not at all"
    elif len(hits) < len(RIGHT):
        problem = f"{len(hits)} of {len(RIGHT)} documents"
    elif any(math.isnan(score) for _, score in hits):
        problem = "a score is NaN"
    else:
        problem = "another order, or other scores"
    return f"**WRONG ranking**, {problem},"


def describe_error(error: Exception, url: str) -> str:
    """The type, with its module unless it is Python's or ours, and the message's beginning."""
    kind = type(error)
    known = kind.__module__ in {"builtins", "jina_rerank.errors"}
    name = kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"
    message = " ".join(str(error).split()).replace(url, "http://service")
    shown = html.escape(message[:60], quote=False).replace("|", "&#124;").replace("*", "&#42;")
    more = "…" if len(message) > 60 else ""
    return f"`{name}`\n{shown}{more}" if message else f"`{name}`"


class Trial:
    """One client that meets one fault.

    Args:
        client: Its name.
        scenario: What the server does.
        warm_url: A server that answers right.
    """

    def __init__(self, client: str, scenario: Scenario, warm_url: str) -> None:
        self._outcome: Outcome | None = None
        self._resources = ExitStack()
        if scenario.then is None:
            # Bound, so that nobody else gets the port, and not listening.
            unheard = self._resources.enter_context(socket.socket())
            unheard.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        else:
            server = self._resources.enter_context(FaultServer())
            server.default = scenario.then
            server.script(*scenario.first)
            url = server.url
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(
            target=call, args=(theirs, client, warm_url, url, scenario.calls), daemon=True
        )
        self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Wait for the imports."""
        self._pipe.recv()

    def go(self) -> None:
        """Make the call, and wait for its end for as long as PATIENCE."""
        self._deadline = time.monotonic() + LIMIT
        self._pipe.send("go")
        self._wait(PATIENCE)

    def finish(self) -> Outcome | None:
        """The outcome; None if there is none within LIMIT."""
        if self._outcome is None:
            self._wait(max(0.0, self._deadline - time.monotonic()))
        self.close()
        return self._outcome

    def close(self) -> None:
        """End the process, then the server."""
        self._process.kill()
        self._process.join()
        self._resources.close()

    def _wait(self, seconds: float) -> None:
        if self._pipe.poll(seconds):
            self._outcome = self._pipe.recv()
            self.close()


def cell(outcome: Outcome | None, *, with_memory: bool) -> str:
    """The table's entry for one trial."""
    # A call that went on while others were measured may have ended later, before it was looked at.
    if outcome is None or outcome.seconds > LIMIT:
        return f"still waiting after {LIMIT:.0f} s"
    what, _, message = outcome.what.partition("\n")
    memory = f", {outcome.megabytes:+.0f} MB" if with_memory else ""
    return f"{what} in {outcome.seconds:.2f} s{memory}" + (f"<br>{message}" if message else "")


def main() -> None:
    """Print the table, then the machine and the versions."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    faults = {client: scenarios(client) for client in CLIENTS}
    labels = list(faults["jina-rerank"])
    table: dict[str, list[Trial]] = {}
    with ExitStack() as stack:
        well = stack.enter_context(FaultServer())
        for label in labels:
            print(label, file=sys.stderr)
            table[label] = row = []
            for client in CLIENTS:
                row.append(Trial(client, faults[client][label], well.url))
                stack.callback(row[-1].close)
            for trial in row:
                trial.wait_until_ready()
            for trial in row:
                trial.go()
        print(f"| fault | {' | '.join(CLIENTS)} |")
        print("|---" * (1 + len(CLIENTS)) + "|")
        for label, row in table.items():
            cells = [cell(trial.finish(), with_memory=label == BOMB) for trial in row]
            print(f"| {label} | {' | '.join(cells)} |")
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores,")
    print(f"Python {platform.python_version()}; {', '.join(f'{m} {version(m)}' for m in PACKAGES)}")


if __name__ == "__main__":
    main()
