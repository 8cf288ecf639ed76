"""Building, serializing, pickling, opening and closing."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from llama_index.core.bridge.pydantic import SecretStr, ValidationError
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from jina_rerank import (
    ConfigurationError,
    InputError,
    LocalScorer,
    ModelLoadError,
    Reranker,
    RerankError,
)
from jina_rerank.plugin import build_reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"

# Every setting that can be serialized today, each at a value that is not its default.
SETTINGS = {
    "model": "jinaai/jina-reranker-v1-turbo-en",
    "top_n": 7,
    "threshold": 0.25,
    "metadata_mode": MetadataMode.LLM,
    "dtype": "float32",
    "device": "cpu",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}
# These two belong to backend="remote", which this version does not have.
REMOTE_ONLY = {"backend": "local", "base_url": None}
NOT_SERIALIZED = {"api_key", "reranker", "callback_manager"}


def test_every_setting_has_its_place_in_these_tests():
    accepted = set(inspect.signature(JinaRerank).parameters)
    assert accepted == set(SETTINGS) | set(REMOTE_ONLY) | NOT_SERIALIZED


def test_the_defaults_are_the_cores():
    core = inspect.signature(build_reranker).parameters
    ours = inspect.signature(JinaRerank).parameters
    assert {n: ours[n].default for n in core} == {n: p.default for n, p in core.items()}
    fields = JinaRerank.model_fields
    assert {n: fields[n].default for n in core} == {n: p.default for n, p in core.items()}


def test_every_setting_survives_a_round_trip():
    rerank = JinaRerank(**SETTINGS)
    expected = {**SETTINGS, **REMOTE_ONLY, "class_name": "JinaRerank"}
    assert rerank.to_dict() == expected
    assert json.loads(rerank.to_json()) == expected
    for again in (
        JinaRerank.from_dict(rerank.to_dict()),
        JinaRerank.from_json(rerank.to_json()),
        pickle.loads(pickle.dumps(rerank)),
        copy.deepcopy(rerank),
    ):
        assert again.to_dict() == expected
        assert isinstance(again.metadata_mode, MetadataMode)
        # What the model was built with, and not only what the fields say.
        assert repr(again._reranker) == repr(rerank._reranker)


def test_from_dict_leaves_its_argument_alone_and_takes_overrides():
    data = JinaRerank(top_n=3).to_dict()
    before = dict(data)
    assert JinaRerank.from_dict(data, top_n=5).top_n == 5
    assert data == before


def test_settings_reach_the_model():
    rerank = JinaRerank(**SETTINGS)
    assert repr(rerank._reranker) == repr(
        Reranker(
            LocalScorer(
                "jinaai/jina-reranker-v1-turbo-en",
                dtype="float32",
                device="cpu",
                max_length=512,
                long_documents="chunk",
                revision="main",
            )
        )
    )


def test_a_folder_may_be_a_path():
    assert JinaRerank(model=Path("models") / "mine").to_dict()["model"] == str(
        Path("models") / "mine"
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"top_n": 0}, "top_n: must be at least 1"),
        ({"top_n": -1}, "top_n: must be at least 1"),
        ({"top_n": True}, "top_n: must be a whole number"),
        ({"threshold": float("nan")}, "threshold: is NaN"),
        ({"threshold": "0.5"}, "threshold: must be a number"),
        ({"metadata_mode": "title"}, "metadata_mode must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"max_length": 1}, "max_length must be"),
        ({"long_documents": "split"}, "long_documents must be one of"),
        ({"revision": "main"}, "revision: the embedded model has none"),
        ({"backend": "cloud"}, "backend must be one of"),
        ({"backend": "remote", "api_key": KEY}, 'backend="remote" is not in this version'),
        ({"api_key": KEY}, 'api_key belongs to backend="remote"'),
        ({"api_key": SecretStr(KEY)}, 'api_key belongs to backend="remote"'),
        ({"base_url": "http://localhost"}, 'base_url belongs to backend="remote"'),
        ({"reranker": "jina-rerank-mini"}, "reranker must be a jina_rerank.Reranker, not str"),
        ({"reranker": FakeScorer()}, "reranker must be a jina_rerank.Reranker, not FakeScorer"),
    ],
)
def test_bad_settings_fail_at_once_and_name_themselves(settings, problem):
    with pytest.raises((ConfigurationError, InputError)) as caught:
        JinaRerank(**settings)
    assert str(caught.value).startswith(problem)
    assert KEY not in str(caught.value) + repr(caught.value)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="top_k"):
        JinaRerank(top_k=3)


@pytest.mark.parametrize("name", ["model", "dtype", "device", "max_length", "long_documents"])
def test_the_models_settings_cannot_be_assigned(name):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(JinaRerank(), name, SETTINGS[name])


@pytest.mark.parametrize(
    "settings",
    [
        {name: SETTINGS[name]}
        for name in ("model", "dtype", "device", "max_length", "long_documents", "revision")
    ]
    + [{"backend": "remote"}, {"api_key": KEY}, {"base_url": "http://localhost"}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_reranker_comes_without_other_model_settings(settings):
    with pytest.raises(ConfigurationError, match=f"leave out {next(iter(settings))}") as caught:
        JinaRerank(reranker=Reranker(), **settings)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("variable", ["JINA_API_KEY", "JINAAI_API_KEY"])
def test_a_key_in_the_environment_is_no_concern_of_a_local_model(monkeypatch, variable):
    monkeypatch.setenv(variable, KEY)
    rerank = JinaRerank()
    assert KEY not in repr(rerank) + rerank.to_json()


def test_a_key_is_in_no_dump():
    # Built past the constructor, since no backend of this version takes a key.
    rerank = JinaRerank.model_construct(api_key=SecretStr(KEY))
    rerank._owns_reranker = True
    assert KEY.encode() not in pickle.dumps(rerank)
    shown = [repr(rerank), str(rerank), rerank.to_json(), rerank.model_dump_json()]
    assert all(KEY not in text for text in shown)
    assert "api_key" not in rerank.to_dict()


def test_a_shared_reranker_cannot_be_serialized():
    rerank = JinaRerank(reranker=Reranker(), top_n=3)
    for serialize in (rerank.to_dict, rerank.to_json, rerank.json):
        with pytest.raises(ConfigurationError, match="reranker= cannot be serialized"):
            serialize()


def test_a_shared_reranker_is_pickled_with_its_model(numbers):
    rerank = JinaRerank(reranker=Reranker(FakeScorer(float_of_text)), top_n=2)
    for again in (pickle.loads(pickle.dumps(rerank)), copy.deepcopy(rerank)):
        assert again.top_n == 2
        assert [n.score for n in again.postprocess_nodes(numbers, query_str="q")] == [0.9, 0.5]
        with pytest.raises(ConfigurationError):
            again.to_dict()


def float_of_text(_: str, text: str) -> float:
    return float(text)


def test_pickling_leaves_the_callback_handlers_behind(numbers):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    debug.lock = threading.Lock()  # what a handler with a connection looks like to pickle
    rerank = JinaRerank(
        reranker=Reranker(FakeScorer(float_of_text)), callback_manager=CallbackManager([debug])
    )
    again = pickle.loads(pickle.dumps(rerank))
    assert again.callback_manager.handlers == []
    assert again.postprocess_nodes(numbers, query_str="q")[0].text == "0.9"
    assert rerank.callback_manager.handlers == [debug]


def test_what_cannot_be_pickled_is_an_error_and_not_left_out():
    scorer = FakeScorer()
    scorer.lock = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(JinaRerank(reranker=Reranker(scorer)))


def test_nothing_is_loaded_before_it_is_needed():
    rerank = JinaRerank(model="/no/such/folder")
    nodes = [NodeWithScore(node=TextNode(text="a"))]
    with pytest.raises(ModelLoadError):
        rerank.warm_up()
    with pytest.raises(RerankError):
        rerank.postprocess_nodes(nodes, query_str="q")


async def test_warm_up_reaches_the_model():
    scorer = FakeScorer()
    rerank = JinaRerank(reranker=Reranker(scorer))
    assert scorer.warm_ups == 0
    rerank.warm_up()
    await rerank.awarm_up()
    assert scorer.warm_ups == 2


async def test_closing_leaves_a_shared_reranker_open():
    scorer = FakeScorer()
    rerank = JinaRerank(reranker=Reranker(scorer))
    rerank.close()
    await rerank.aclose()
    assert not scorer.closed


@pytest.mark.parametrize("how", ["close", "aclose"])
async def test_closing_lets_go_of_a_model_of_its_own(numbers, how):
    rerank = JinaRerank()
    for _ in range(2):
        if how == "close":
            rerank.close()
        else:
            await rerank.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        rerank.postprocess_nodes(numbers, query_str="q")


def test_postprocessors_of_one_model_load_it_once(caplog):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("tea", "coffee")]
    # A dtype that no other test here asks for, so that it is not loaded yet.
    both = [JinaRerank(dtype="bfloat16", top_n=top_n) for top_n in (1, 2)]
    with caplog.at_level(logging.INFO, logger="jina_rerank"):
        found = [rerank.postprocess_nodes(nodes, query_str="coffee?") for rerank in both]
    assert [len(nodes) for nodes in found] == [1, 2]
    assert len([r for r in caplog.records if r.message.startswith("loaded")]) == 1


def test_importing_and_building_load_neither_torch_nor_transformers():
    program = (
        "import sys\n"
        "from llama_index.postprocessor.jina_rerank import JinaRerank\n"
        "JinaRerank(top_n=3).to_json()\n"
        "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_it_lives_beside_the_official_integration():
    official = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    assert official.JinaRerank is not JinaRerank
    import llama_index.postprocessor

    assert getattr(llama_index.postprocessor, "__file__", None) is None  # still a namespace
