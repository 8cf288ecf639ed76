import copy
import inspect
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from haystack import Document, Pipeline
from haystack.core.errors import DeserializationError
from haystack.utils import ComponentDevice, DeviceMap, Secret

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError, InputError, LocalScorer, Reranker, RerankError
from jina_rerank.plugin import build_reranker
from jina_rerank.testing import FakeScorer

KEY = "jina_0123456789abcdef"
DEFAULT_KEY = {"type": "env_var", "env_vars": ["JINA_API_KEY", "JINAAI_API_KEY"], "strict": False}

# For every parameter that can be serialized, a value that is not its default.
CHANGED = {
    "model": "jinaai/jina-reranker-v1-turbo-en",
    "top_k": None,
    "score_threshold": 0.25,
    "meta_fields_to_embed": ["title", "year"],
    "embedding_separator": " | ",
    "backend": "remote",
    "api_key": Secret.from_env_var("MY_KEY"),
    "base_url": "http://localhost:8080/v1",
    "dialect": "sagemaker",
    "timeout": 2.5,
    "max_retries": 0,
    "device": ComponentDevice.from_str("cuda:1"),
    "dtype": "float32",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}
REMOTE = {"backend", "api_key", "base_url", "dialect", "timeout", "max_retries"}
LOCAL = {"device", "dtype", "max_length", "long_documents", "revision"}
# Settings of the two backends do not go together, and these go with either.
ALL_LOCAL = {name: value for name, value in CHANGED.items() if name not in REMOTE}
ALL_REMOTE = {name: value for name, value in CHANGED.items() if name not in LOCAL}


def with_what_it_needs(name):
    """The settings to give for one of them to be changed."""
    needed = {}
    if name in REMOTE:
        needed = {"backend": "remote", "base_url": CHANGED["base_url"]}
    elif name == "revision":
        needed = {"model": CHANGED["model"]}
    return {**needed, name: CHANGED[name]}


def parameters():
    return inspect.signature(JinaRanker.__init__).parameters


class TestDefaults:
    def test_it_needs_nothing(self):
        ranker = JinaRanker()
        assert (ranker.model, ranker.top_k, ranker.score_threshold) == (None, 10, None)
        assert ranker.to_dict() == {
            "type": "haystack_integrations.components.rankers.jina_rerank.ranker.JinaRanker",
            "init_parameters": {
                "model": None,
                "top_k": 10,
                "score_threshold": None,
                "meta_fields_to_embed": [],
                "embedding_separator": "\n",
                "backend": "local",
                "api_key": DEFAULT_KEY,
                "base_url": None,
                "dialect": "jina",
                "timeout": 30.0,
                "max_retries": 2,
                "device": None,
                "dtype": "auto",
                "max_length": 8192,
                "long_documents": "truncate",
                "revision": None,
            },
        }

    def test_they_are_the_cores(self):
        core = inspect.signature(build_reranker).parameters
        differing = {n for n in core if core[n].default != parameters()[n].default}
        # In Haystack's own types: a Secret, and None for its ComponentDevice.
        assert differing == {"api_key", "device"}

    @pytest.mark.torch
    def test_building_one_loads_nothing(self):
        JinaRanker("/nowhere/at/all")

    def test_building_one_sends_nothing(self, server, remote):
        remote().warm_up()
        assert server.connections == 0


class TestBadSettingsFailAtOnce:
    @pytest.mark.parametrize("top_k", [0, -3])
    def test_top_k(self, top_k):
        with pytest.raises(ValueError, match=rf"^top_k must be > 0, but got {top_k}$"):
            JinaRanker(top_k=top_k)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("top_k", 1.5),
            ("top_k", "3"),
            ("score_threshold", "x"),
            ("score_threshold", math.nan),
        ],
    )
    def test_limits(self, name, value):
        with pytest.raises(InputError, match=f"^{name}: "):
            JinaRanker(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("meta_fields_to_embed", "title"),
            ("embedding_separator", None),
            ("embedding_separator", 3),
            ("backend", "cloud"),
            ("base_url", "http://localhost"),
            ("dialect", "tei"),
            ("timeout", 5.0),
            ("max_retries", 0),
            ("device", "cuda:0"),
            ("device", ComponentDevice.from_multiple(DeviceMap.from_hf({"a": "cpu"}))),
            ("dtype", "float16"),
            ("max_length", 3),
            ("long_documents", "ignore"),
            ("revision", "main"),
            ("reranker", "jinaai/jina-reranker-v1-turbo-en"),
        ],
    )
    def test_the_rest(self, name, value):
        with pytest.raises(ConfigurationError, match=name):
            JinaRanker(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("model", ""),
            ("base_url", "localhost:8080"),
            ("dialect", "openai"),
            ("timeout", 0),
            ("timeout", math.inf),
            ("timeout", "5"),
            ("max_retries", -1),
            ("max_retries", 1.5),
            *((name, CHANGED[name]) for name in sorted(LOCAL)),
        ],
    )
    def test_those_of_a_service(self, remote, name, value):
        with pytest.raises(ConfigurationError, match=name):
            remote(**{name: value})

    @pytest.mark.parametrize("name", inspect.signature(build_reranker).parameters)
    def test_a_reranker_brings_its_own(self, name):
        with pytest.raises(ConfigurationError, match=f"^{name} and reranker do not go together"):
            JinaRanker(reranker=Reranker(FakeScorer()), **{name: CHANGED[name]})

    def test_a_reranker_ignores_the_keys_that_stand_for_the_environments(self, scorer):
        for key in (None, Secret.from_env_var(DEFAULT_KEY["env_vars"], strict=False)):
            ranker = JinaRanker(reranker=Reranker(scorer), api_key=key)
            assert len(ranker.run("q", [Document(content="x 1")])["documents"]) == 1

    def test_all_that_a_reranker_brings_is_named_at_once(self, scorer):
        with pytest.raises(ConfigurationError, match=r"^dtype, max_length and reranker do not go"):
            JinaRanker(reranker=Reranker(scorer), dtype="float32", max_length=64)


class TestKey:
    def test_one_in_the_environment_does_not_trouble_a_local_model(self, monkeypatch):
        monkeypatch.setenv("JINA_API_KEY", KEY)
        output = JinaRanker().run("q", [Document(content="q")])
        assert len(output["documents"]) == 1

    def test_one_that_was_given_does(self):
        with pytest.raises(ConfigurationError, match="api_key: applies to services only") as caught:
            JinaRanker(api_key=Secret.from_token(KEY))
        assert KEY not in str(caught.value)
        with pytest.raises(ConfigurationError, match="api_key: applies to services only"):
            JinaRanker(api_key=Secret.from_env_var("MY_KEY"))

    @pytest.mark.parametrize("backend", ["local", "remote"])
    def test_a_bare_string_is_refused_and_not_shown(self, backend):
        with pytest.raises(ConfigurationError, match="must be a Secret") as caught:
            JinaRanker(backend=backend, api_key=KEY)
        assert KEY not in str(caught.value)

    def test_none_is_fine(self):
        assert JinaRanker(api_key=None).to_dict()["init_parameters"]["api_key"] is None


class TestSerialization:
    def test_every_parameter_is_tried_below(self):
        assert set(parameters()) == {*CHANGED, "self", "reranker"}

    @pytest.mark.parametrize("name", CHANGED)
    @pytest.mark.torch
    def test_each_parameter_survives_yaml(self, name):
        ranker = JinaRanker(**with_what_it_needs(name))
        data = yaml.safe_load(yaml.safe_dump(ranker.to_dict()))
        again = JinaRanker.from_dict(data)
        assert getattr(again, name) == CHANGED[name] != parameters()[name].default
        assert again.to_dict() == ranker.to_dict()

    @pytest.mark.parametrize("settings", [ALL_LOCAL, ALL_REMOTE], ids=["local", "remote"])
    @pytest.mark.torch
    def test_all_together(self, settings):
        ranker = JinaRanker(**settings)
        again = JinaRanker.from_dict(json.loads(json.dumps(ranker.to_dict())))
        assert {name: getattr(again, name) for name in settings} == settings

    @pytest.mark.torch
    def test_a_folder_becomes_a_string(self, tmp_path):
        data = JinaRanker(Path(tmp_path)).to_dict()
        assert data["init_parameters"]["model"] == str(tmp_path)

    @pytest.mark.torch
    def test_from_dict_leaves_its_argument_alone(self):
        data = JinaRanker(device=ComponentDevice.from_str("cpu")).to_dict()
        before = copy.deepcopy(data)
        JinaRanker.from_dict(data)
        assert data == before
        JinaRanker.from_dict(data)

    def test_from_dict_refuses_another_component(self):
        with pytest.raises(DeserializationError):
            JinaRanker.from_dict({"type": "haystack.Other", "init_parameters": {}})

    def test_from_dict_checks_the_settings(self):
        data = JinaRanker().to_dict()
        data["init_parameters"]["dtype"] = "float16"
        with pytest.raises(ConfigurationError, match="dtype"):
            JinaRanker.from_dict(data)

    def test_a_reranker_cannot_be_written_down(self, ranker):
        with pytest.raises(ConfigurationError, match="cannot be serialized"):
            ranker.to_dict()

    def test_the_list_of_fields_is_its_own(self):
        fields = ["title"]
        ranker = JinaRanker(meta_fields_to_embed=fields)
        fields.append("more")
        assert ranker.meta_fields_to_embed == ["title"]


def test_a_subclass_can_be_made():
    # The decorator rebuilds the class, so zero-argument super() inside it would fail.
    class Mine(JinaRanker):
        def __init__(self):
            super().__init__(top_k=3)

    assert Mine().top_k == 3
    assert len(Mine().run("q", [Document(content=str(i)) for i in range(5)])["documents"]) == 3


def test_no_telemetry():
    assert not hasattr(JinaRanker, "_get_telemetry_data")


def test_configuration_errors_share_the_cores_tree():
    with pytest.raises(RerankError):
        JinaRanker(dtype="float16")


def test_numpys_numbers_are_written_as_pythons():
    settings = {"timeout": np.float32(2.5), "max_retries": np.int64(1), "top_k": np.int16(4)}
    remote = JinaRanker(backend="remote", base_url="http://localhost", **settings)
    local = JinaRanker(max_length=np.int64(64), score_threshold=np.float64(0.5))
    for ranker in (remote, local):
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        again = Pipeline.loads(pipeline.dumps()).get_component("ranker")
        assert again.to_dict() == ranker.to_dict()


def test_a_threshold_beyond_all_numbers_is_refused():
    with pytest.raises(InputError, match="score_threshold: is beyond all scores"):
        JinaRanker(score_threshold=10**400)


def test_without_the_extra_for_its_model_it_cannot_be_built(monkeypatch):
    by_hand = Reranker(LocalScorer())
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    for settings in ({"model": "org/name"}, {"reranker": by_hand}):
        with pytest.raises(ConfigurationError, match=r'pip install "jina-rerank\[local\]"'):
            JinaRanker(**settings)
    assert JinaRanker()  # ONNX Runtime runs the embedded model
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"\[local\].*\[onnx\]"):
        JinaRanker()
    assert JinaRanker(backend="remote", base_url="http://localhost")
