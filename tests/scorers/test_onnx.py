"""The ONNX scorer against the bare model and against the local scorer, and its own failures."""

import json
import math
import pickle
import subprocess
import sys
from array import array
from pathlib import Path

import onnx
import pytest
import torch
from checkpoints import random_model, write_checkpoint, write_config
from families import write_reranker
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from jina_rerank import (
    ConfigurationError,
    InputError,
    LocalScorer,
    ModelLoadError,
    OnnxScorer,
    Reranker,
    ScoringError,
)
from jina_rerank.encoders import JinaBert, TokenPair
from jina_rerank.onnx import export_onnx
from jina_rerank.onnx.graph import build_model
from jina_rerank.scorers.base import LongDocuments
from jina_rerank.scorers.onnx import PADDING_TOKENS, _batches

QUERY = "what is panda?"
DOCUMENTS = ["a bear", "the capital of france is paris", "", "coffee " * 40, "a bear"]
COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


@pytest.fixture(scope="module")
def exported(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(small_checkpoint, tmp_path_factory.mktemp("exported")).parent


@pytest.fixture(scope="module")
def reranker(exported: Path) -> Reranker:
    return Reranker(OnnxScorer(exported))


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece"])
def test_logits_are_the_bare_models_on_the_tokenizers_own_pairs(
    tmp_path: Path, tokenizer: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tokenizer=tokenizer)
    folder = export_onnx(checkpoint, tmp_path / "exported").parent
    model = JinaBert.from_pretrained(checkpoint)
    plain = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    ranking = Reranker(OnnxScorer(folder)).rank(QUERY, DOCUMENTS)
    for hit in ranking:
        encoding = plain.encode(QUERY, hit.text)
        logit = model(torch.tensor([encoding.ids]), None, torch.tensor([encoding.type_ids])).item()
        assert hit.logit == pytest.approx(logit, abs=1e-4)
        assert hit.score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)
        assert hit.tokens == len(plain.encode(hit.text, add_special_tokens=False).ids)
    assert ranking.model == str(folder)


def texts_of_the_collection() -> tuple[list[str], list[str]]:
    queries, corpus = (
        [json.loads(line)["text"] for line in (COFFEE / name).read_text().splitlines()]
        for name in ("queries.jsonl", "corpus.jsonl")
    )
    return queries[:6], corpus[:25]


def test_the_embedded_model_ranks_as_torch_does() -> None:
    queries, documents = texts_of_the_collection()
    pairs = [(query, documents) for query in queries]
    ours, theirs = (
        Reranker(scorer).rank_many(pairs)
        for scorer in (
            OnnxScorer(max_length=128),
            LocalScorer(dtype="float32", device="cpu", max_length=128),
        )
    )
    for found, expected in zip(ours, theirs, strict=True):
        assert [hit.index for hit in found] == [hit.index for hit in expected]
        for hit, wanted in zip(found, expected, strict=True):
            assert hit.logit == pytest.approx(wanted.logit, abs=1e-4)
        assert found.usage == expected.usage
        assert found.model == expected.model


words = st.lists(
    st.sampled_from(["panda", "bear", "paris", "france", "coffee", "the", "of", "a"]), max_size=120
)
texts = st.lists(words.map(" ".join), min_size=1, max_size=12)


@given(
    documents=texts,
    long_documents=st.sampled_from(["truncate", "chunk"]),
    top_n=st.integers(1, 13),
    max_length=st.sampled_from([24, 40, 8192]),
)
def test_a_whole_ranking_is_the_local_scorers(
    small_checkpoint: Path,
    exported: Path,
    documents: list[str],
    long_documents: LongDocuments,
    top_n: int,
    max_length: int,
) -> None:
    documents = ["panda", *documents]
    ours, theirs = (
        Reranker(scorer).rank(QUERY, documents)
        for scorer in (
            OnnxScorer(exported, max_length=max_length, long_documents=long_documents),
            LocalScorer(
                small_checkpoint,
                dtype="float32",
                max_length=max_length,
                long_documents=long_documents,
            ),
        )
    )
    assert ours.usage == theirs.usage
    expected = {hit.index: hit for hit in theirs}
    for hit in ours:
        wanted = expected[hit.index]
        assert hit.logit == pytest.approx(wanted.logit, abs=1e-4)
        assert (hit.text, hit.tokens, hit.truncated_tokens) == (
            wanted.text,
            wanted.tokens,
            wanted.truncated_tokens,
        )
    scores = [hit.score for hit in ours]
    assert scores == sorted(scores, reverse=True)
    scorer = OnnxScorer(exported, max_length=max_length, long_documents=long_documents)
    cut = Reranker(scorer).rank(QUERY, documents, top_n=top_n)
    assert [hit.index for hit in cut] == [hit.index for hit in ours][:top_n]


def test_error_names_the_document(exported: Path) -> None:
    strict = Reranker(OnnxScorer(exported, max_length=40, long_documents="error"))
    with pytest.raises(InputError, match=r"^documents\[1\]: .*tokens and \d+ fit"):
        strict.rank(QUERY, ["short", "panda " * 90])


def test_the_models_own_limit_applies(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", max_position_embeddings=32)
    folder = export_onnx(checkpoint, tmp_path / "exported").parent
    (hit,) = Reranker(OnnxScorer(folder)).rank("panda", ["bear " * 100])
    assert hit.truncated_tokens is not None
    assert hit.truncated_tokens > 60


def pair_of_length(length: int) -> TokenPair:
    return TokenPair(array("i", [1] * length), array("i", [0] * length))


@given(lengths=st.lists(st.integers(1, 3000), max_size=60))
def test_little_padding_is_computed_and_no_pair_is_lost(lengths: list[int]) -> None:
    pairs = [pair_of_length(length) for length in sorted(lengths, reverse=True)]
    batches = list(_batches(pairs))
    assert [pair for batch in batches for pair in batch] == pairs
    for batch in batches:
        padded = len(batch) * max(map(len, batch))
        assert padded - sum(map(len, batch)) <= PADDING_TOKENS


def test_pairs_of_similar_length_share_a_batch() -> None:
    assert [len(batch) for batch in _batches([pair_of_length(64)] * 64)] == [64]
    mixed = [pair_of_length(length) for length in (2000, 20, 20, 19)]
    assert [len(batch) for batch in _batches(mixed)] == [1, 3]


def test_pickle_takes_the_settings_and_not_the_model(exported: Path) -> None:
    reranker = Reranker(OnnxScorer(exported, long_documents="chunk", max_length=64))
    expected = reranker.rank(QUERY, DOCUMENTS)
    stored = pickle.dumps(reranker)
    assert len(stored) < 2_000
    copy = pickle.loads(stored)
    assert copy.rank(QUERY, DOCUMENTS) == expected
    assert repr(copy) == repr(reranker)


def test_one_session_for_all_scorers_of_a_folder(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported.parent)
    scorers = [OnnxScorer(exported), OnnxScorer(exported.name, max_length=64)]
    first, second = (scorer._loading().result() for scorer in scorers)
    assert first is second


def test_a_closed_scorer_says_so(exported: Path) -> None:
    reranker = Reranker(OnnxScorer(exported))
    reranker.close()
    with pytest.raises(ConfigurationError, match="closed; make a new one"):
        reranker.rank(QUERY, DOCUMENTS)


def with_graph(folder: Path, model: JinaBert) -> Reranker:
    """A folder with the small tokenizer and the graph of another model."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    onnx.save_model(build_model(model.architecture, weights), folder / "model.onnx")
    return Reranker(OnnxScorer(folder))


def test_nan_is_an_error(small_checkpoint: Path, tmp_path: Path) -> None:
    export_onnx(small_checkpoint, tmp_path)
    model = random_model()
    model.classifier.bias.fill_(math.nan)
    with pytest.raises(ScoringError, match="as nan"):
        with_graph(tmp_path, model).rank(QUERY, DOCUMENTS)


def test_a_run_that_fails_is_a_scoring_error(
    small_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_onnx(small_checkpoint, tmp_path)
    too_few_words = random_model(vocab_size=5)
    with pytest.raises(ScoringError, match=r"the model failed on \d+ tokens"):
        with_graph(tmp_path, too_few_words).rank(QUERY, DOCUMENTS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.onnx"])
def test_a_missing_file_is_named_and_can_be_added(
    small_checkpoint: Path, tmp_path: Path, missing: str
) -> None:
    export_onnx(small_checkpoint, tmp_path)
    content = (tmp_path / missing).read_bytes()
    (tmp_path / missing).unlink()
    reranker = Reranker(OnnxScorer(tmp_path))
    with pytest.raises(ModelLoadError, match=rf"has no {missing}; .*jina-rerank export"):
        reranker.warm_up()
    (tmp_path / missing).write_bytes(content)
    assert len(reranker.rank(QUERY, DOCUMENTS)) == 5


def test_tokens_without_a_row_in_the_embedding_are_refused_at_load(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    export_onnx(small_checkpoint, tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([f"<extra{number}>" for number in range(200)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        ModelLoadError, match=r"config\.json: vocab_size: 400 is too small.*tokenizer\.json"
    ):
        OnnxScorer(tmp_path).warm_up()


@pytest.mark.parametrize("int8", [False, True])
def test_a_model_of_one_token_type_reads_every_type_as_the_same(tmp_path: Path, int8: bool) -> None:
    """RoBERTa has one type, whatever the types in the template of its tokenizer.json."""
    checkpoint = tmp_path / "checkpoint"
    write_reranker(checkpoint, "roberta")
    plain = OnnxScorer(export_onnx(checkpoint, tmp_path / "plain", int8=int8).parent)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B:1 </s>:1",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    typed = OnnxScorer(export_onnx(checkpoint, tmp_path / "typed", int8=int8).parent)
    expected = Reranker(plain).score(QUERY, DOCUMENTS)
    assert Reranker(typed).score(QUERY, DOCUMENTS) == expected
    if not int8:
        local = Reranker(LocalScorer(checkpoint, dtype="float32"))
        assert expected == pytest.approx(local.score(QUERY, DOCUMENTS), abs=1e-5)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="absent: no such folder"):
        OnnxScorer(tmp_path / "absent").warm_up()


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph(
    small_checkpoint: Path, tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    export_onnx(small_checkpoint, tmp_path).write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"model\.onnx: cannot be loaded"):
        OnnxScorer(tmp_path).warm_up()
    assert capfd.readouterr() == ("", "")


def test_a_graph_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path)
    export_onnx(write_checkpoint(tmp_path / "small"), tmp_path / "out")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])
    other = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opset)
    onnx.save_model(model, tmp_path / "out" / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"has inputs \['x'\].*not an exported reranker"):
        OnnxScorer(tmp_path / "out").warm_up()


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigurationError, match="model must be a folder, not int"):
        OnnxScorer(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_length"):
        OnnxScorer(max_length=3)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx", "tokenizers", "safetensors"])
def test_a_missing_library_is_named_with_the_command(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from jina_rerank import ConfigurationError, OnnxScorer\n"
        "try:\n    OnnxScorer().warm_up()\n"
        "except ConfigurationError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"OnnxScorer needs {missing}")
    assert 'pip install "jina-rerank[onnx]"' in done.stdout


USE = """
import json, sys
from pathlib import Path
sys.modules.update(dict.fromkeys(sys.argv[2:]))
from jina_rerank import OnnxScorer, Reranker
Reranker(OnnxScorer(sys.argv[1] or None)).rank("what is panda?", ["a bear", "paris"])
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("embedded", [True, False])
def test_torch_is_not_imported(exported: Path, embedded: bool) -> None:
    """And for an exported folder neither is what only builds graphs: it need not be there."""
    absent = [] if embedded else ["onnx", "safetensors", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", USE, "" if embedded else str(exported), *absent],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    loaded = set(json.loads(done.stdout)) - set(absent)
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "sentence_transformers"}


def test_the_fingerprint_tells_models_and_settings_apart(exported: Path) -> None:
    prints = {
        scorer.fingerprint
        for scorer in (
            OnnxScorer(),
            OnnxScorer(exported),
            OnnxScorer(exported, max_length=64),
            LocalScorer(exported, dtype="float32", device="cpu"),
        )
    }
    assert len(prints) == 4
    assert OnnxScorer(exported).fingerprint in prints
    assert OnnxScorer(exported).listwise is False
