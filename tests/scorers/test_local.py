"""The local scorer against the bare model, and its invariants."""

import gc
import json
import math
import pickle
import shutil
import weakref
from collections.abc import Hashable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from families import write_reranker
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from serving import GatedModel, until
from tokenizers import Tokenizer

from jina_rerank import ConfigurationError, LocalScorer, ModelLoadError, Reranker
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.flex import FlexEncoder
from jina_rerank.encoders.gpu import GpuEngine
from jina_rerank.scorers._pair_model import Computed, PairModel
from jina_rerank.scorers._pairs import CHARACTERS_PER_WINDOW, _sigmoid, score_in_steps
from jina_rerank.scorers.base import ModelFacts, ScoreRequest
from jina_rerank.scorers.local import _EncoderPairs

QUERY = "what is panda?"
DOCUMENTS = ["a bear", "the capital of france is paris", "", "coffee " * 40, "a bear"]


@pytest.fixture(scope="module")
def reranker(small_checkpoint: Path) -> Reranker:
    return Reranker(LocalScorer(small_checkpoint, dtype="float32"))


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece"])
def test_logits_are_the_bare_models_on_the_tokenizers_own_pairs(
    tmp_path: Path, tokenizer: str
) -> None:
    folder = write_checkpoint(tmp_path, tokenizer=tokenizer)
    model = JinaBert.from_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ranking = Reranker(LocalScorer(folder, dtype="float32")).rank(QUERY, DOCUMENTS)
    for hit in ranking:
        encoding = plain.encode(QUERY, hit.text)
        logit = model(torch.tensor([encoding.ids]), None, torch.tensor([encoding.type_ids])).item()
        assert hit.logit == pytest.approx(logit, abs=1e-5)
        assert hit.score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
        assert hit.tokens == len(plain.encode(hit.text, add_special_tokens=False).ids)
        assert hit.truncated_tokens == 0
    pairs = [plain.encode(QUERY, document) for document in DOCUMENTS]
    assert ranking.usage.tokens == sum(len(encoding.ids) for encoding in pairs)
    assert ranking.usage.documents == len(DOCUMENTS)


words = st.lists(
    st.sampled_from(["panda", "bear", "paris", "france", "coffee", "the", "of", "a"]), max_size=30
)
texts = st.lists(words.map(" ".join), min_size=1, max_size=12)


@given(documents=texts, data=st.data())
def test_a_score_depends_on_its_pair_alone(
    reranker: Reranker, documents: list[str], data: st.DataObject
) -> None:
    documents = ["panda", *documents]
    order = data.draw(st.permutations(range(len(documents))))
    together = reranker.rank(QUERY, [documents[i] for i in order])
    for hit in together:
        # The other document is there because one blank document alone is refused.
        alone = {h.index: h.logit for h in reranker.rank(QUERY, [hit.text, "panda"])}
        assert hit.logit == pytest.approx(alone[0], abs=1e-5)


@given(lists=st.lists(texts, min_size=1, max_size=4))
def test_queries_scored_together_do_not_mix(reranker: Reranker, lists: list[list[str]]) -> None:
    pairs = [(f"panda {i}", ["bear", *documents]) for i, documents in enumerate(lists)]
    for (query, documents), ranking in zip(pairs, reranker.rank_many(pairs), strict=True):
        expected = {h.index: h.logit for h in reranker.rank(query, documents)}
        assert {h.index: h.logit for h in ranking} == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_engine_for_gpus_ranks_as_the_one_for_processors(
    small_checkpoint: Path, reranker: Reranker
) -> None:
    class Flex(LocalScorer):
        """As on a GPU, its attention uncompiled."""

        def _load(self) -> PairModel:
            model = JinaBert.from_pretrained(small_checkpoint)
            engine = GpuEngine(model, FlexEncoder(model, backend=None))
            pairs = super()._load()
            assert isinstance(pairs, _EncoderPairs)
            return replace(pairs, forward=engine, batch_tokens=engine.batch_tokens)

        def _key(self) -> Hashable:
            return (Flex, super()._key())

    flex = Reranker(Flex(small_checkpoint, dtype="float32"))
    assert flex.score(QUERY, DOCUMENTS) == pytest.approx(reranker.score(QUERY, DOCUMENTS), abs=1e-5)


def test_the_query_is_tokenized_once_a_call(reranker: Reranker) -> None:
    tokenizer = reranker.scorer._loading().result().tokenizer  # type: ignore[attr-defined]
    seen: list[str] = []
    encode = tokenizer.encode
    tokenizer.encode = lambda texts: seen.extend(texts) or encode(texts)
    try:
        reranker.rank(QUERY, [f"document {i}" for i in range(50)])
    finally:
        del tokenizer.encode
    assert seen.count(QUERY) == 1
    assert len(seen) == 51


def test_the_embedded_model_knows_its_capitals() -> None:
    reranker = Reranker()
    assert reranker.model == "jina-rerank-mini"
    ranking = reranker.rank(
        "What is the capital of France?",
        ["Berlin is the capital of Germany.", "Bread is baked.", "Paris is the capital of France."],
    )
    assert [hit.index for hit in ranking] == [2, 0, 1]
    assert all(0 < hit.score < 1 for hit in ranking)


def test_in_the_embedded_models_middle_layers_one_head_writes_nothing() -> None:
    """It is left out, see `test_fused`, and a long pair has a window: else turbo is quicker."""
    model = JinaBert.from_pretrained(embedded_model_folder())
    heads = model.config.num_attention_heads
    writing = [
        int(layer.attention.output.dense.weight.unflatten(1, (heads, -1)).any(-1).any(0).sum())
        for layer in model.bert.encoder.layer
    ]
    assert writing == [13, 12, 12, 12, 12, 12, 13]
    assert model.config.attention_window == 256


def test_scores_of_very_good_documents_do_not_tie() -> None:
    assert 0 < _sigmoid(-700) < _sigmoid(-30) < _sigmoid(29.9) < _sigmoid(30) < 1
    assert _sigmoid(0) == 0.5


WORDS = ["coffee", "beans", "jar", "light", "heat", "store", "grind", "water", "7", "12", "13"]


@pytest.fixture(scope="module")
def in_both_dtypes() -> Iterator[dict[str, Reranker]]:
    with (
        Reranker(LocalScorer(dtype="float32")) as exact,
        Reranker(LocalScorer(dtype="bfloat16")) as rough,
    ):
        yield {"float32": exact, "bfloat16": rough}


@given(
    texts=st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join),
        min_size=2,
        max_size=30,
        unique=True,
    )
)
@settings(max_examples=20, deadline=None)
def test_documents_that_differ_tie_no_more_often_in_bfloat16(
    in_both_dtypes: dict[str, Reranker], texts: list[str]
) -> None:
    distinct = {
        dtype: len({hit.logit for hit in reranker.rank("How is coffee stored?", texts)})
        for dtype, reranker in in_both_dtypes.items()
    }
    assert distinct["bfloat16"] >= distinct["float32"]


def test_documents_that_differ_in_a_number_do_not_tie_in_bfloat16(
    in_both_dtypes: dict[str, Reranker],
) -> None:
    jars = [f"Store coffee beans in an airtight jar number {i}, away from heat." for i in range(60)]
    ranking = in_both_dtypes["bfloat16"].rank("How is coffee stored?", jars)
    assert len({hit.logit for hit in ranking}) == 60


def test_bfloat16_and_float32_rank_alike(small_checkpoint: Path) -> None:
    exact = Reranker(LocalScorer(small_checkpoint, dtype="float32")).score(QUERY, DOCUMENTS)
    fast = Reranker(LocalScorer(small_checkpoint, dtype="bfloat16")).score(QUERY, DOCUMENTS)
    assert fast == pytest.approx(exact, abs=0.05)
    assert fast != exact


def test_pickle_takes_the_settings_and_not_the_model(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, dtype="float32", long_documents="chunk", max_length=64)
    expected = Reranker(scorer).rank(QUERY, DOCUMENTS)
    stored = pickle.dumps(Reranker(scorer))
    assert len(stored) < 2_000
    copy = pickle.loads(stored)
    assert copy.rank(QUERY, DOCUMENTS) == expected
    assert repr(copy) == repr(Reranker(scorer))


def test_a_closed_scorer_says_so(small_checkpoint: Path) -> None:
    reranker = Reranker(small_checkpoint)
    with reranker:
        reranker.warm_up()
    reranker.close()
    with pytest.raises(ConfigurationError, match="closed; make a new one"):
        reranker.rank(QUERY, DOCUMENTS)


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_missing_file_is_named_and_can_be_added(tmp_path: Path, missing: str) -> None:
    write_checkpoint(tmp_path)
    content = (tmp_path / missing).read_bytes()
    (tmp_path / missing).unlink()
    reranker = Reranker(tmp_path)
    with pytest.raises(ModelLoadError, match=missing.replace(".", r"\.")):
        reranker.warm_up()
    (tmp_path / missing).write_bytes(content)
    assert len(reranker.rank(QUERY, DOCUMENTS)) == 5


def test_tokens_without_a_row_in_the_embedding_are_refused_at_load(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([f"<extra{number}>" for number in range(200)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        ModelLoadError, match=r"config\.json: vocab_size: 400 is too small.*tokenizer\.json"
    ):
        LocalScorer(tmp_path).warm_up()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_texts_tie_wherever_they_stand(dtype) -> None:
    texts = [f"{'word ' * (i % 5)}text {i}" for i in range(40)]
    with Reranker(LocalScorer(dtype=dtype)) as reranker:
        scores = reranker.score("q", ["the same", *texts, "the same", *texts[:7], "the same"])
    assert scores[0] == scores[41] == scores[-1]
    assert scores[1:8] == scores[42:49]


def test_the_same_texts_tie_across_the_windows_that_are_tokenized_at_a_time(
    small_checkpoint: Path,
) -> None:
    blanks = " " * (CHARACTERS_PER_WINDOW // 4)
    texts = ["a bear" + blanks, *(f"{i:06}" + blanks for i in range(9)), "a bear" + blanks]
    requests = [ScoreRequest("panda", texts), ScoreRequest("panda", texts)]
    steps = score_in_steps(
        GatedModel(small_checkpoint), requests, 512, "truncate", None, submitted=0.0
    )
    wanted, rows = next(steps), count()
    responses = []
    while not responses:  # a model whose last digits depend on the row
        try:
            wanted = steps.send(Computed([0.1 + next(rows) * 1e-7 for _ in wanted.pairs], 0.0))
        except StopIteration as end:
            responses = end.value
    logits = [logit for response in responses for logit in response.logits]
    assert next(rows) == 22
    assert logits[0] == logits[10]
    assert logits[:11] == logits[11:]
    assert len(set(logits)) == 10


@pytest.mark.parametrize(
    ("kind", "family", "window"), [("bert", "BERT", None), ("modernbert", "ModernBERT", 16)]
)
def test_what_a_model_is_can_be_told_once_it_is_loaded(
    tmp_path: Path, kind: str, family: str, window: int | None
) -> None:
    write_reranker(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    if window is not None:
        assert config["local_attention"] // 2 == window
    scorer = LocalScorer(tmp_path, dtype="bfloat16", max_length=24)
    assert scorer.facts is None
    scorer.warm_up()
    assert scorer.facts == ModelFacts(24, "bfloat16", family, window)
    whole = LocalScorer(tmp_path, dtype="bfloat16")
    whole.warm_up()
    assert whole.facts is not None
    assert 24 < whole.facts.max_tokens <= config["max_position_embeddings"]
    scorer.close()
    assert scorer.facts is None


def test_a_dropped_reranker_leaves_no_model_behind(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint)
    Reranker(scorer).score("panda", ["bear"])
    assert scorer._slot is not None
    loaded = weakref.ref(scorer._slot)
    del scorer
    gc.collect()
    until(lambda: loaded() is None)


def test_a_model_that_was_trained_again_in_its_folder_is_read_again(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(small_checkpoint, tmp_path / "model")
    old = Reranker(LocalScorer(folder, dtype="float32"))
    before = old.rank("panda", ["bear"])[0].logit
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"] += 5
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    new = Reranker(LocalScorer(folder, dtype="float32"))
    assert new.rank("panda", ["bear"])[0].logit == pytest.approx(before + 5, abs=1e-4)
    assert old.rank("panda", ["bear"])[0].logit == pytest.approx(before, abs=1e-4)
