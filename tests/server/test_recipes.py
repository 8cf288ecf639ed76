"""The bodies of docs/migrate.md, filled in as the products do it, and sent to a real service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import LiveService

from jina_rerank import LocalScorer, Reranker

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text(encoding="utf-8")
QUERY = 'what is a "panda"?'
DOCUMENTS = ["coffee is brewed", 'the "giant" panda\nis a bear', "paris"]


def recipe(product: str) -> Any:
    section = PAGE.split(f"### {product}\n")[1].split("\n### ")[0]
    return json.loads(re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)[0])


def pick(path: str, answer: Any) -> list[Any]:
    """The part of JSON path that these recipes use: `$.results[*].index`."""
    name, key = re.fullmatch(r"\$\.(\w+)\[\*\]\.(\w+)", path).groups()
    return [one[key] for one in answer[name]]


@pytest.fixture(scope="module")
def best_first(small_checkpoint: Path) -> list[tuple[int, float]]:
    ranking = Reranker(LocalScorer(small_checkpoint)).rank(QUERY, DOCUMENTS)
    return [(hit.index, pytest.approx(hit.score, abs=1e-6)) for hit in ranking]


def send(service: LiveService, url: str, body: str | dict[str, Any]) -> Any:
    """Post to the path of a recipe's address; the service's only model is called small."""
    path = re.fullmatch(r"http://jina-rerank:8000(/.*)", url)[1]
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "application/json", "authorization": "Bearer a-key-of-16-characters"}
    content = text.replace('"mini"', '"small"')
    reply = httpx.post(f"{service.url}{path}", content=content, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_elasticsearchs_custom_service(
    service: LiveService, best_first: list[tuple[int, float]]
) -> None:
    settings = recipe("Elasticsearch")["service_settings"]
    body = settings["request"]
    for name, value in {"query": QUERY, "input": DOCUMENTS}.items():
        body = body.replace(f"${{{name}}}", json.dumps(value))
    assert "${" not in body
    answer = send(service, settings["url"], body)
    read = {name: pick(path, answer) for name, path in settings["response"]["json_parser"].items()}
    pairs = list(zip(read["reranked_index"], read["relevance_score"], strict=True))
    assert pairs == best_first
    assert read["document_text"] == [DOCUMENTS[index] for index, _ in best_first]


def test_opensearchs_connector(service: LiveService, best_first: list[tuple[int, float]]) -> None:
    connector = recipe("OpenSearch")
    (action,) = connector["actions"]
    body = action["request_body"]
    # It escapes what stands between quotes, and writes lists and numbers as they are.
    values = {
        "documents": json.dumps(DOCUMENTS),
        "query": json.dumps(QUERY)[1:-1],
        "top_n": str(len(DOCUMENTS)),
        **connector["parameters"],
    }
    for name, value in values.items():
        body = body.replace(f"${{parameters.{name}}}", value)
    assert "${" not in body
    answer = send(service, action["url"], body)
    # connector.post_process.cohere.rerank reads these.
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == best_first


def test_open_webui(service: LiveService, best_first: list[tuple[int, float]]) -> None:
    (url,) = re.findall(r"RAG_EXTERNAL_RERANKER_URL=(\S+)", PAGE)
    body = {"model": "mini", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
    answer = send(service, url, body)
    # It takes the scores in the order of the documents.
    in_order = sorted(answer["results"], key=lambda result: result["index"])
    assert [r["relevance_score"] for r in in_order] == [score for _, score in sorted(best_first)]


def test_dify(service: LiveService, best_first: list[tuple[int, float]]) -> None:
    (url,) = re.findall(r"the endpoint URL `(\S+)`", PAGE.replace("\n", " "))
    body = {
        "model": "mini",
        "query": QUERY,
        "documents": DOCUMENTS,
        "top_n": len(DOCUMENTS),
        "return_documents": True,
    }
    answer = send(service, f"{url}/rerank", body)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == best_first
