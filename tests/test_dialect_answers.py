"""Right answers of the fault server."""

import math
import statistics
from typing import Any

import pytest
from dialect_answers import Shape, count_tokens, dialect_of, documents_of, right_payload, score

QUERY = "where is the dog"
TEXTS = ["the dog is in my house", "he likes dog", "bread is baked", "kaffee für zwei"]
BODY = {"model": "jina-reranker-v2-base-multilingual", "query": QUERY, "documents": TEXTS}
RANKING = sorted(enumerate(score(QUERY, text) for text in TEXTS), key=lambda hit: -hit[1])


def answer(path: str, body: dict[str, Any]) -> Any:
    dialect = dialect_of(path, body)
    assert dialect is not None
    return right_payload(dialect, body, Shape())


def hits(results: list[dict[str, Any]], key: str = "relevance_score") -> list[tuple[int, float]]:
    return [(result["index"], result[key]) for result in results]


def test_scores_are_spread_and_apart() -> None:
    scores = [score(f"query {i}", f"document {i}") for i in range(2000)]
    assert all(0 < s < 1 and s == round(s, 8) for s in scores)
    assert len(set(scores)) == 2000
    assert statistics.mean(scores) == pytest.approx(0.5, abs=0.03)
    assert statistics.stdev(scores) == pytest.approx(math.sqrt(1 / 12), abs=0.02)
    assert score("a", "bc") != score("ab", "c")


def test_jina() -> None:
    for path in ("/v1/rerank", "/rerank", "/proxy/v1/rerank?trace=1"):
        payload = answer(path, BODY | {"top_n": 3})
        assert hits(payload["results"]) == RANKING[:3]
        assert [r["document"] for r in payload["results"]] == [TEXTS[i] for i, _ in RANKING[:3]]
        assert payload["usage"] == {"total_tokens": 19}
        assert count_tokens(QUERY, TEXTS) == 19
        assert (payload["object"], payload["model"]) == ("list", BODY["model"])


def test_jina_echoes_the_callers_type() -> None:
    def document(**fields: Any) -> Any:
        return answer("/v1/rerank", BODY | fields)["results"][0].get("document", "absent")

    text = TEXTS[RANKING[0][0]]
    assert document() == document(return_documents=None) == text
    assert document(return_documents=False) == "absent"
    assert document(documents=[{"text": text} for text in TEXTS]) == {"text": text}
    assert document(model="jina-reranker-v3") == {"text": text}


def test_cohere() -> None:
    payload = answer("/v2/rerank", BODY | {"top_n": 2, "max_tokens_per_doc": 9})
    assert hits(payload["results"]) == RANKING[:2]
    assert all(result.keys() == {"index", "relevance_score"} for result in payload["results"])
    assert payload["meta"]["billed_units"] == {"search_units": 1}
    many = answer("/v2/rerank", BODY | {"documents": ["a"] * 101})
    assert many["meta"]["billed_units"] == {"search_units": 2}


def test_tei() -> None:
    body = {"query": QUERY, "texts": TEXTS, "top_n": 2}
    payload = answer("/rerank", body | {"return_text": True})
    assert hits(payload, "score") == RANKING
    assert [result["text"] for result in payload] == [TEXTS[i] for i, _ in RANKING]
    raw = answer("/rerank", body | {"raw_scores": True})
    assert hits(raw, "score") == [(i, pytest.approx(math.log(s / (1 - s)))) for i, s in RANKING]
    assert "text" not in raw[0]
    assert documents_of("tei", body) == TEXTS


@pytest.mark.parametrize("as_list", [False, True])
def test_sagemaker(as_list: bool) -> None:
    part = {"query": QUERY, "documents": [{"text": text} for text in TEXTS], "top_n": 2}
    body = {"data": [part, part] if as_list else part}
    payload = answer("/invocations", body)
    assert len(payload["data"]) == 1 + as_list
    assert len(documents_of("sagemaker", body)) == 4 * (1 + as_list)
    for data in payload["data"]:
        assert hits(data["results"]) == RANKING[:2]
        assert data["results"][0]["document"]["text"] == TEXTS[RANKING[0][0]]
        assert data["query_usage"]["total_tokens"] == 4
        assert data["docs_usage"]["total_tokens"] == 15
        assert ("id" in data) is not as_list
