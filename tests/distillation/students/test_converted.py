"""A converted BERT computes what transformers' BERT computes under the same attention bias."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import attention_of, wordpiece_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel

from jina_rerank import InputError, LocalScorer, ModelLoadError, Reranker
from jina_rerank.distillation.students.converted import convert_bert, gated_from_plain
from jina_rerank.encoders import JinaBert, PairTokenizer
from jina_rerank.encoders.bias import Bias
from jina_rerank.encoders.checkpoint import save_checkpoint
from jina_rerank.encoders.sequences import Sequences

LENGTH = 40
IDS = torch.randint(5, 200, (LENGTH,), generator=torch.Generator().manual_seed(1))
TYPES = (torch.arange(LENGTH) >= 12).long()

PAPER = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
RERANKER = [2**-2, 2**-4, 2**-6, 2**-8, 2**-2, 2**-4]
"""The slopes of six heads, written out: those of four, then every second one of eight's; the
rerankers halve the latter."""


def random_bert(sums: float, activation: str = "gelu", layers: int = 3) -> BertModel:
    """A BERT whose norms are not trivial: the bias over the gain sums to about `sums`."""
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=200,
            hidden_size=48,
            num_hidden_layers=layers,
            num_attention_heads=6,
            intermediate_size=80,
            max_position_embeddings=64,
            hidden_act=activation,
            layer_norm_eps=1e-12,
        )
    ).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.2)
        elif name.endswith("LayerNorm.weight"):
            parameter.data.uniform_(0.3, 1.7)
        else:
            parameter.data.normal_(0, 0.3)
    for layer in model.encoder.layer:
        norm = layer.attention.output.LayerNorm
        ratio = norm.bias.data / norm.weight.data
        norm.bias.data = (ratio - ratio.mean() + sums / len(ratio)) * norm.weight.data
    return model


def write_bert(model: BertModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    wordpiece_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@torch.inference_mode()
def expected(bert: BertModel, slopes: Sequence[float], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Hidden states and pooled output of BERT with one position embedding and a linear bias."""
    positions = bert.embeddings.position_embeddings.weight
    positions.data[:] = positions.data.mean(dim=0)
    distance = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)[None, :]).abs()
    bias = -torch.tensor(slopes)[:, None, None] * distance
    out = bert.to(dtype)(
        input_ids=IDS[None], token_type_ids=TYPES[None], attention_mask=bias[None].to(dtype)
    )
    return out.last_hidden_state[0].float(), out.pooler_output[0].float()


@torch.inference_mode()
def computed(model: JinaBert, slopes: Sequence[float]) -> tuple[Tensor, Tensor]:
    hidden = model.bert.embeddings(IDS, TYPES, Sequences([LENGTH], IDS.device))
    bias = Bias(torch.tensor(slopes), torch.full((len(slopes),), torch.inf))
    for layer in model.bert.encoder.layers:
        hidden = layer.run(hidden, attention_of(bias))
    return hidden.float(), model.bert.pooler(hidden[0]).float()


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("sums", [0.0, 0.01, -3.0, 60.0, -60.0])
def test_same_hidden_states(tmp_path: Path, sums: float, activation: str) -> None:
    bert = random_bert(sums, activation)
    model, _ = convert_bert(write_bert(bert, tmp_path))
    hidden, pooled = expected(bert, PAPER, torch.float32)
    found, found_pooled = computed(model, PAPER)
    assert hidden.std() > 0.5
    torch.testing.assert_close(found, hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(found_pooled, pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("variant", "slopes"), [("reranker", RERANKER), ("paper", PAPER)])
def test_logit_with_the_models_own_slopes(
    tmp_path: Path, variant: str, slopes: list[float]
) -> None:
    bert = random_bert(0.01)
    model, _ = convert_bert(write_bert(bert, tmp_path), slopes=variant)
    _, pooled = expected(bert, slopes, torch.float32)
    with torch.inference_mode():
        found = model(IDS[None], token_type_ids=TYPES[None])
        torch.testing.assert_close(found, model.classifier(pooled), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sums", [0.01, 60.0])
def test_bfloat16_loses_no_more_than_bert_itself(tmp_path: Path, sums: float) -> None:
    model, _ = convert_bert(write_bert(random_bert(sums), tmp_path))
    exact, _ = expected(random_bert(sums), PAPER, torch.float32)
    berts, _ = expected(random_bert(sums), PAPER, torch.bfloat16)
    ours, _ = computed(model.bfloat16(), PAPER)
    assert (ours - exact).square().mean() < 1.5**2 * (berts - exact).square().mean()


def test_the_second_half_of_the_gate_gives_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(7, 24, generator=generator), torch.randn(7, generator=generator)
    gain, shift = torch.rand(24, generator=generator) + 0.3, torch.randn(24, generator=generator)
    gated = gated_from_plain(weight, bias, gain, shift)
    x = torch.nn.functional.layer_norm(
        5 * torch.randn(50, 24, generator=generator), (24,), gain, gated.norm_bias
    )
    gate, value = (x @ gated.gated_layers.T).chunk(2, dim=1)
    torch.testing.assert_close(value, torch.ones(50, 7), atol=1e-5, rtol=0)
    plain = (x - gated.residual) @ weight.T + bias
    torch.testing.assert_close(gate, plain, atol=1e-4, rtol=0)


def test_a_gain_of_zero_is_refused() -> None:
    gain = torch.tensor([1.0, 0.0])
    with pytest.raises(InputError, match="norm_gain"):
        gated_from_plain(torch.ones(3, 2), torch.ones(3), gain, torch.ones(2))


def test_chosen_layers(tmp_path: Path) -> None:
    bert = random_bert(1.0, layers=4)
    model, _ = convert_bert(write_bert(bert, tmp_path), layers=[0, 3])
    bert.encoder.layer = torch.nn.ModuleList([bert.encoder.layer[0], bert.encoder.layer[3]])
    assert model.config.num_hidden_layers == 2
    hidden, _ = expected(bert, PAPER, torch.float32)
    torch.testing.assert_close(computed(model, PAPER)[0], hidden, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [[], [3], [-1, 0]])
def test_layers_that_are_not_there_are_refused(tmp_path: Path, layers: list[int]) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    with pytest.raises(ModelLoadError, match="3 layers"):
        convert_bert(folder, layers=layers)


def test_units_that_do_nothing_may_go(tmp_path: Path) -> None:
    bert = random_bert(1.0)
    for layer, idle in zip(
        bert.encoder.layer, (slice(0, 30), slice(50, 80), slice(3, 33)), strict=True
    ):
        layer.intermediate.dense.weight.data[idle] *= 1e-3
        layer.output.dense.weight.data[:, idle] = 0
    model, _ = convert_bert(write_bert(bert, tmp_path), intermediate_size=50)
    assert model.bert.encoder.layer[0].mlp.wo.weight.shape == (48, 50)
    hidden, _ = expected(bert, PAPER, torch.float32)
    torch.testing.assert_close(computed(model, PAPER)[0], hidden, atol=1e-5, rtol=0)


def test_units_that_are_not_there_are_refused(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    with pytest.raises(ModelLoadError, match="80 units, fewer than 81"):
        convert_bert(folder, intermediate_size=81)


def test_the_seed_makes_the_classifier(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    weights = [convert_bert(folder, seed=seed)[0].classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert 0 < weights[0].abs().max() < 0.1


def test_without_a_pooler_it_is_the_identity(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("pooler")}
    assert len(kept) == len(state) - 2
    save_file(kept, folder / "model.safetensors")
    hidden, pooled = computed(convert_bert(folder)[0], PAPER)
    torch.testing.assert_close(pooled, hidden[0].tanh())


def test_older_names_are_understood(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    model, _ = convert_bert(folder)
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(old, folder / "model.safetensors")
    again, _ = convert_bert(folder)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "roberta"),
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "silu"),
    ],
)
def test_other_encoders_are_refused(tmp_path: Path, field: str, value: str) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ModelLoadError, match=value):
        convert_bert(folder)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        convert_bert(folder)


def pair_of(tokenizer: Tokenizer) -> tuple[list[str], list[int]]:
    encoding = tokenizer.encode("What is coffee?", "Coffee is brewed.")
    return encoding.tokens, encoding.type_ids


def test_the_tokenizer_tells_query_and_document_apart(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    stored = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stored.enable_truncation(4)
    stored.enable_padding(length=30)
    stored.save(str(folder / "tokenizer.json"))
    _, tokenizer = convert_bert(folder)
    tokens, types = pair_of(tokenizer)
    middle = tokens.index("[SEP]") + 1
    assert tokens[0] == "[CLS]"
    assert tokens[-1] == "[SEP]"
    assert types == [0] * middle + [1] * (len(tokens) - middle)
    assert tokenizer.token_to_id("[PAD]") == 0
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_vocabulary_will_do(tmp_path: Path, lowercase: bool) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    whole = wordpiece_tokenizer()
    (folder / "tokenizer.json").unlink()
    vocabulary = sorted(whole.get_vocab().items(), key=lambda item: item[1])
    lines = "\n".join(token for token, _ in vocabulary if token != "[MASK]")
    (folder / "vocab.txt").write_text(lines)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    _, tokenizer = convert_bert(folder)
    tokens, _ = pair_of(tokenizer)
    assert ("[UNK]" in tokens) != lowercase
    if lowercase:
        assert tokens == pair_of(whole)[0]
    assert tokenizer.token_to_id("[MASK]") is None


def test_without_a_tokenizer_it_is_refused(tmp_path: Path) -> None:
    folder = write_bert(random_bert(1.0), tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"vocab\.txt"):
        convert_bert(folder)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    model, tokenizer = convert_bert(write_bert(random_bert(1.0), tmp_path / "bert"), slopes="paper")
    folder = tmp_path / "new" / "reranker"
    save_checkpoint(model, tokenizer, folder)
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1, "others may read all of it"
    again = JinaBert.from_pretrained(folder)
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    pairs = PairTokenizer.from_file(folder / "tokenizer.json")
    query, document = pairs.encode(["what is coffee?", "coffee is brewed from beans"])
    pair = pairs.pair(query, document)
    with torch.inference_mode():
        logit = model(torch.tensor([pair.input_ids]), None, torch.tensor([pair.token_type_ids]))
    scorer = LocalScorer(folder, dtype="float32")
    ranking = Reranker(scorer).rank("what is coffee?", ["coffee is brewed from beans"])
    assert ranking.hits[0].logit == pytest.approx(float(logit), abs=1e-5)
