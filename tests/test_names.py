"""One name means one model, wherever it is given, and two models never share a place in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from checkpoints import wordpiece_tokenizer, write_checkpoint
from small_recipe import small_recipe
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import (
    BiEncoderScorer,
    ConfigurationError,
    CrossEncoderScorer,
    LocalScorer,
    ModelLoadError,
    OnnxScorer,
    Reranker,
    SparseEncoderScorer,
)
from jina_rerank.distillation import CheckpointStudent, read_recipe
from jina_rerank.distillation.teachers import TeacherSettings, check_teacher, load_teacher
from jina_rerank.evaluation import RerankerSystem
from jina_rerank.evaluation.spelling import Speller
from jina_rerank.onnx import export_onnx
from jina_rerank.plugin import build_reranker
from jina_rerank.server import Settings
from jina_rerank.server.served import find_models
from jina_rerank.spec import split_served
from jina_rerank.transformers import JinaBertForSequenceClassification, JinaBertRerankerConfig
from langchain_jina_rerank import JinaRerank as LangChainRerank
from llama_index.postprocessor.jina_rerank import JinaRerank as LlamaIndexRerank

NAMES = ["jina-rerank-mini", "mini"]
QUERY = "What is the capital of France?"
DOCUMENTS = ["Berlin is the capital of Germany.", "Paris is the capital of France.", "Bread."]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which other models have the embedded one's names."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        write_checkpoint(tmp_path / name)
    return tmp_path


def evaluated(name: str) -> Reranker:
    system = Speller({}).build(name)
    assert isinstance(system, RerankerSystem)
    return system.reranker


def served(name: str) -> Reranker:
    (model,) = find_models(Settings(models=(name,)))
    return model.reranker


def exported(name: str) -> Reranker:
    export_onnx(name, "exported")
    return Reranker(OnnxScorer("exported"))


def ranked_by_haystack(name: str) -> Reranker:
    again = JinaRanker.from_dict(JinaRanker(name).to_dict())
    again.warm_up()
    assert again._own is not None
    return again._own


DOORS: dict[str, Callable[[str], Reranker]] = {
    "Reranker": Reranker,
    "LocalScorer": lambda name: Reranker(LocalScorer(name)),
    "OnnxScorer": lambda name: Reranker(OnnxScorer(name)),
    "plugins": lambda name: build_reranker(model=name),
    "llama-index": lambda name: LlamaIndexRerank(model=name)._reranker,
    "langchain": lambda name: LangChainRerank(model=name)._lease.reranker,
    "haystack": ranked_by_haystack,
    "serve": served,
    "serve under a name": lambda name: served(f"ours={name}"),
    "eval": evaluated,
    "export": exported,
    "a recipe's teacher": lambda name: Reranker(
        load_teacher(TeacherSettings(name="t", model=name), (), torch.float32)
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.usefixtures("folders")
def test_the_name_means_the_embedded_model_at_every_door(door: str, name: str) -> None:
    reranker = DOORS[door](name)
    expected = Reranker(LocalScorer(dtype="float32")).score(QUERY, DOCUMENTS)
    assert reranker.score(QUERY, DOCUMENTS) == pytest.approx(expected, abs=0.03)
    if door != "export":
        assert reranker.model == "jina-rerank-mini"


@pytest.mark.usefixtures("folders")
def test_the_name_means_the_embedded_model_in_recipes_and_in_transformers() -> None:
    model, tokenizer = CheckpointStudent(checkpoint="jina-rerank-mini").build(())
    assert model.config.num_hidden_layers == 7
    assert tokenizer.get_vocab_size() > 20_000
    check_teacher(TeacherSettings(name="t", model="jina-rerank-mini"), torch.float32)
    config = JinaBertRerankerConfig.from_pretrained("jina-rerank-mini")
    assert config.num_hidden_layers == 7
    named = JinaBertForSequenceClassification.from_pretrained("mini")
    assert named.config.num_hidden_layers == 7


def test_a_recipe_may_begin_with_the_embedded_model(folders: Path) -> None:
    recipe = read_recipe(small_recipe(folders, student='checkpoint = "jina-rerank-mini"'))
    assert recipe.student.build(())[0].config.num_hidden_layers == 7


@pytest.mark.parametrize("name", [Path("jina-rerank-mini"), "./jina-rerank-mini", Path("mini")])
@pytest.mark.usefixtures("folders")
def test_a_path_of_the_same_name_is_the_folder_and_has_its_own_place_in_memory(
    name: str | Path,
) -> None:
    expected = Reranker(LocalScorer(Path(name).resolve())).score(QUERY, DOCUMENTS)
    embedded, folder = Reranker("jina-rerank-mini"), Reranker(name)
    first = embedded.score(QUERY, DOCUMENTS)
    assert folder.score(QUERY, DOCUMENTS) == expected != first
    embedded.close()
    folder.close()
    # In the other order, each loaded anew.
    folder, embedded = Reranker(name), Reranker("jina-rerank-mini")
    assert folder.score(QUERY, DOCUMENTS) == expected
    assert embedded.score(QUERY, DOCUMENTS) == first
    ranker, postprocessor = JinaRanker(name), LlamaIndexRerank(model=name)
    ranker.warm_up()
    assert ranker._own is not None
    assert ranker._own.score(QUERY, DOCUMENTS) == expected
    assert LlamaIndexRerank(model=postprocessor.model)._reranker.score(QUERY, DOCUMENTS) == expected


def cache_model(hub: Path, name: str, *, seed: int = 0) -> None:
    """A model in the hub's cache, as if it had been downloaded."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    write_checkpoint(folder / "snapshots" / ("a" * 40), seed=seed)


def test_a_hub_id_and_a_path_that_look_alike_do_not_share_a_place_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_model(tmp_path / "hub", "org/small")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    with Reranker("org/small") as cached:
        cached.warm_up()
        with pytest.raises(ModelLoadError, match="org/small: no such folder"):
            Reranker(Path("org/small")).warm_up()
        write_checkpoint(tmp_path / "org" / "small", seed=1)
        folder = Reranker(Path("org/small"))
        assert folder.score(QUERY, DOCUMENTS) != cached.score(QUERY, DOCUMENTS)


def write_cross_encoder(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    tokenizer = wordpiece_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=37,
        initializer_range=0.5,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)


def write_local(folder: Path, seed: int) -> None:
    write_checkpoint(folder, seed=seed)


def write_onnx(folder: Path, seed: int) -> None:
    write_checkpoint(folder.with_name("original"), seed=seed)
    export_onnx(folder.with_name("original"), folder)


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        (LocalScorer, write_local),
        (OnnxScorer, write_onnx),
        (CrossEncoderScorer, write_cross_encoder),
    ],
)
def test_a_relative_folder_is_the_one_of_the_current_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[str], LocalScorer | OnnxScorer | CrossEncoderScorer],
    write: Callable[[Path, int], None],
) -> None:
    scores, kept = [], []
    for seed, place in enumerate(("here", "there")):
        write(tmp_path / place / "model", seed)
        monkeypatch.chdir(tmp_path / place)
        kept.append(Reranker(kind("model")))
        scores.append(kept[-1].score(QUERY, DOCUMENTS))
    assert scores[0] != scores[1]
    assert kept[0].score(QUERY, DOCUMENTS) == scores[0]
    slots = [Reranker(kind(f"../{place}/model")) for place in ("here", "there")]
    assert [reranker.score(QUERY, DOCUMENTS) for reranker in slots] == scores


@pytest.mark.parametrize("name", NAMES)
def test_sentence_transformers_is_not_asked_for_the_embedded_model(name: str) -> None:
    for build in (CrossEncoderScorer, BiEncoderScorer, SparseEncoderScorer):
        with pytest.raises(ConfigurationError, match=f"{name} is the embedded model, which"):
            build(name)
    for spelled in (f"cross-encoder:{name}", f"bi-encoder:{name}", f"sparse-encoder:{name}"):
        with pytest.raises(ConfigurationError, match="is the embedded model, which"):
            Speller({}).build(spelled)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_name_is_no_model_and_not_the_current_folder(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    monkeypatch.chdir(small_checkpoint)
    for build in (
        Reranker,
        LocalScorer,
        OnnxScorer,
        CrossEncoderScorer,
        BiEncoderScorer,
        Speller({}).build,
        lambda name: build_reranker(model=name),
        JinaRanker,
        lambda name: LangChainRerank(model=name),
        lambda name: LlamaIndexRerank(model=name),
        lambda name: export_onnx(name, "new"),
    ):
        with pytest.raises(ConfigurationError, match="is blank; name a folder or a hub id"):
            build(blank)
    assert not Path("new").exists()
    assert len(Reranker(Path()).rank(QUERY, DOCUMENTS)) == 3, "the current folder, said as a path"


def test_a_blank_revision_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="revision is blank"):
        LocalScorer("org/small", revision="")


@pytest.mark.parametrize(
    ("entry", "name", "model"),
    [
        ("mini", "mini", "mini"),
        ("org/small", "org/small", "org/small"),
        ("small=org/small", "small", "org/small"),
        ("org/small=folder", "org/small", "folder"),
        ("small=/models/a=b", "small", "/models/a=b"),
        ("small=./a=b=c", "small", "./a=b=c"),
        (" small = folder", "small", "folder"),
        ("/models/a=b", "/models/a=b", "/models/a=b"),
        ("./a=b", "./a=b", "./a=b"),
        ("../a=b", "../a=b", "../a=b"),
        ("~/a=b", "~/a=b", "~/a=b"),
        ("a=there", "a=there", "a=there"),
    ],
)
def test_an_equals_sign_in_a_path_is_part_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, name: str, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=there").mkdir()
    assert split_served(entry) == (name, model)


def test_a_folder_with_an_equals_sign_is_served(small_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "epochs=3,lr=1e-4"
    shutil.copytree(small_checkpoint, folder)
    expected = Reranker(small_checkpoint).score(QUERY, DOCUMENTS)
    assert served(str(folder)).score(QUERY, DOCUMENTS) == expected
    assert served(f"tuned={folder}").score(QUERY, DOCUMENTS) == expected
    file = tmp_path / "serve.toml"
    file.write_text(f"models = [{json.dumps(str(folder))}]\n")
    (model,) = find_models(Settings.read({}, {}, file))
    assert model.name == str(folder)


@pytest.mark.parametrize("entry", ["=folder", "small=", " = ", "small= "])
def test_half_a_name_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="lacks a part; write NAME=MODEL"):
        served(entry)
