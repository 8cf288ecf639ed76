"""Rerank ten product titles for a query: the example of Jina's model cards."""

from __future__ import annotations

from jina_rerank import Ranking, Reranker

QUERY = "Organic skincare products for sensitive skin"
DOCUMENTS = [
    "Eco-friendly kitchenware for modern homes",
    "Biodegradable cleaning supplies for eco-conscious consumers",
    "Organic cotton baby clothes for sensitive skin",
    "Natural organic skincare range for sensitive skin",
    "Tech gadgets for smart homes: 2024 edition",
    "Sustainable gardening tools and compost solutions",
    "Sensitive skin-friendly facial cleansers and toners",
    "Organic food wraps and storage solutions",
    "All-natural pet food for dogs with allergies",
    "Yoga mats made from recycled materials",
]


def main() -> Ranking:
    """Print the three best, with their scores."""
    with Reranker() as reranker:  # or Reranker("jinaai/jina-reranker-v1-turbo-en")
        ranking = reranker.rank(QUERY, DOCUMENTS, top_n=3)
    for hit in ranking:
        print(f"{hit.score:.4f}  {hit.text}")
    return ranking


if __name__ == "__main__":
    main()
