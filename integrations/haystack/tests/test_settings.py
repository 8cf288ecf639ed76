import copy
import inspect
import json
import math
import pickle
from functools import wraps
from pathlib import Path

import pytest
import yaml
from haystack import Document
from haystack.core.errors import DeserializationError
from haystack.utils import ComponentDevice, DeviceMap, Secret

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from haystack_integrations.components.rankers.jina_rerank import ranker as module
from jina_rerank import ConfigurationError, InputError, Reranker, RerankError
from jina_rerank.plugin import build_reranker
from jina_rerank.testing import FakeScorer

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
    "device": ComponentDevice.from_str("cuda:1"),
    "dtype": "float32",
    "max_length": 512,
    "long_documents": "chunk",
    "revision": "main",
}


@pytest.fixture
def service(monkeypatch):
    """Stands in for the remote backend, and remembers what was asked of it."""
    asked = []

    @wraps(build_reranker)
    def build(**settings):
        asked.append(settings)
        return Reranker(FakeScorer())

    monkeypatch.setattr(module, "build_reranker", build)
    return asked


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

    def test_building_one_loads_nothing(self):
        JinaRanker("/nowhere/at/all")


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
            ("backend", "cloud"),
            ("backend", "remote"),
            ("base_url", "http://localhost"),
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

    @pytest.mark.parametrize("name", inspect.signature(build_reranker).parameters)
    def test_a_reranker_brings_its_own(self, name):
        with pytest.raises(ConfigurationError, match=f"^{name} and reranker do not go together"):
            JinaRanker(reranker=Reranker(FakeScorer()), **{name: CHANGED[name]})


class TestKey:
    def test_one_in_the_environment_does_not_trouble_a_local_model(self, monkeypatch):
        monkeypatch.setenv("JINA_API_KEY", "sk-secret")
        output = JinaRanker().run("q", [Document(content="q")])
        assert len(output["documents"]) == 1

    def test_one_that_was_given_does(self):
        with pytest.raises(ConfigurationError, match="api_key belongs to") as caught:
            JinaRanker(api_key=Secret.from_token("sk-secret"))
        assert "sk-secret" not in str(caught.value)
        with pytest.raises(ConfigurationError, match="api_key belongs to"):
            JinaRanker(api_key=Secret.from_env_var("MY_KEY"))

    @pytest.mark.parametrize("backend", ["local", "remote"])
    def test_a_bare_string_is_refused_and_not_shown(self, backend):
        with pytest.raises(ConfigurationError, match="must be a Secret") as caught:
            JinaRanker(backend=backend, api_key="sk-secret")
        assert "sk-secret" not in str(caught.value)

    def test_none_is_fine(self):
        assert JinaRanker(api_key=None).to_dict()["init_parameters"]["api_key"] is None

    def test_it_is_read_when_warming_up(self, service, monkeypatch):
        ranker = JinaRanker("m", backend="remote", base_url="http://localhost:8080/v1")
        monkeypatch.setenv("JINAAI_API_KEY", "sk-second")
        monkeypatch.setenv("JINA_API_KEY", "sk-first")
        ranker.warm_up()
        assert "sk-first" not in repr(service[:-1])
        assert service[-1]["api_key"] == "sk-first"
        assert service[-1]["base_url"] == "http://localhost:8080/v1"
        assert service[-1]["model"] == "m"
        assert "sk-first" not in repr(ranker) + repr(vars(ranker)) + json.dumps(ranker.to_dict())

    async def test_it_is_read_when_warming_up_async(self, service, monkeypatch):
        ranker = JinaRanker(backend="remote")
        monkeypatch.setenv("JINAAI_API_KEY", "sk-second")
        await ranker.warm_up_async()
        assert service[-1]["api_key"] == "sk-second"

    @pytest.mark.usefixtures("service")
    def test_a_strict_one_that_is_not_set_fails_at_warm_up(self):
        ranker = JinaRanker(backend="remote", api_key=Secret.from_env_var("MY_KEY"))
        with pytest.raises(ValueError, match="MY_KEY"):
            ranker.warm_up()

    def test_a_service_without_keys_gets_none(self, service):
        JinaRanker(backend="remote", api_key=None).warm_up()
        assert service[-1]["api_key"] is None

    @pytest.mark.usefixtures("service")
    def test_a_token_is_never_written_down(self):
        ranker = JinaRanker(backend="remote", api_key=Secret.from_token("sk-secret"))
        assert "sk-secret" not in repr(ranker) + repr(vars(ranker))
        with pytest.raises(ValueError, match="Cannot serialize token") as caught:
            ranker.to_dict()
        assert "sk-secret" not in str(caught.value)


class TestSerialization:
    def test_every_parameter_is_tried_below(self):
        assert set(parameters()) == {*CHANGED, "self", "reranker"}

    @pytest.mark.usefixtures("service")
    @pytest.mark.parametrize("name", CHANGED)
    def test_each_parameter_survives_yaml(self, name):
        ranker = JinaRanker(**{name: CHANGED[name]})
        data = yaml.safe_load(yaml.safe_dump(ranker.to_dict()))
        again = JinaRanker.from_dict(data)
        assert getattr(again, name) == CHANGED[name] != parameters()[name].default
        assert again.to_dict() == ranker.to_dict()

    @pytest.mark.usefixtures("service")
    def test_all_together(self):
        ranker = JinaRanker(**CHANGED)
        again = JinaRanker.from_dict(json.loads(json.dumps(ranker.to_dict())))
        assert {name: getattr(again, name) for name in CHANGED} == CHANGED

    def test_a_folder_becomes_a_string(self, tmp_path):
        data = JinaRanker(Path(tmp_path)).to_dict()
        assert data["init_parameters"]["model"] == str(tmp_path)

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


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
class TestCopies:
    documents = (Document(content="Tea."), Document(content="Coffee beans are roasted."))

    def test_a_warm_one_ranks_the_same(self, copied):
        ranker = JinaRanker(top_k=1)
        ranker.warm_up()
        again = copied(ranker)
        assert again.to_dict() == ranker.to_dict()
        query, documents = "How are coffee beans made?", list(self.documents)
        assert again.run(query, documents) == ranker.run(query, documents)

    def test_a_shared_reranker_goes_along(self, copied):
        ranker = copied(JinaRanker(top_k=1, reranker=Reranker()))
        assert ranker.run("coffee", list(self.documents))["documents"][0].content is not None


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
