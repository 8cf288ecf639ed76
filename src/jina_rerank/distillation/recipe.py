"""The recipe of a distillation: a TOML file, read into dataclasses and checked.

    [student]
    convert = "models/all-MiniLM-L6-v2"      # or checkpoint = "...", or shape = { ... }

    [data]
    pairs = ["pairs/*.jsonl"]

    [[teacher]]
    name = "minilm"
    embedding = "models/all-MiniLM-L6-v2"    # or model; or bm25 = true

    [training]
    steps = 1000

Paths are relative to the directory that the command is run in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import torch

from .._lines import read_text
from ..encoders import JinaBertConfig
from ..errors import InputError
from .checks import check_recipe
from .objective import ListSettings
from .trainer import Settings

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class StudentRecipe:
    """The student's beginning; exactly one of `convert`, `checkpoint` and `shape`.

    Attributes:
        convert: A BERT encoder's folder, see `convert_bert`.
        layers: Which of that encoder's layers to keep, counted from 0; None for all.
        compare: Read the texts apart, and put a layer on top that compares them, see `comparison`.
        intermediate_size: How many units of each feed-forward of that encoder to keep; None for
            all.
        checkpoint: A JinaBERT's folder or hub id.
        shape: Fields of `JinaBertConfig`; the weights are random.
        tokenizer: A `tokenizer.json`, for a student by `shape`.
        seed: Seed of what is random.
    """

    convert: str | None = None
    layers: tuple[int, ...] | None = None
    compare: bool = False
    intermediate_size: int | None = None
    checkpoint: str | None = None
    shape: JinaBertConfig | None = None
    tokenizer: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HealingRecipe:
    """Settings by which a converted student learns the original's hidden states; see `Healing`.

    Attributes:
        steps: How many.
        learning_rate: The highest.
        warm_up: Steps over which it rises.
        decay: Steps over which it falls.
        tokens_per_step: About how many.
    """

    steps: int = 300
    learning_rate: float = 5e-4
    warm_up: int = 40
    decay: int = 260
    tokens_per_step: int = 8192


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Training data.

    Attributes:
        pairs: Files, or patterns such as `pairs/*.jsonl`; see `read_pairs`.
        queries: How many queries of each source at most, drawn at random; None for all. Teachers
            are asked for all of them, and a step takes a few. Passages stay.
        weights: How often lists of a source are drawn, where it is not 1.
        seed: Seed of the choice of queries and of negatives.
    """

    pairs: tuple[str, ...]
    queries: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """One teacher; exactly one of `model`, `embedding` and `bm25`.

    Attributes:
        name: Its folder's among the scores.
        weight: In the mix.
        model: A reranker's name, as for `scorer_of`; the key of a service is in JINA_API_KEY.
        embedding: An embedding model's folder or hub id, see `EmbeddingTeacher`.
        query_prompt: What the embedding model reads before a query.
        passage_prompt: What it reads before a passage.
        bm25: True for BM25 over all passages.
    """

    name: str
    weight: float = 1.0
    model: str | None = None
    embedding: str | None = None
    query_prompt: str = ""
    passage_prompt: str = ""
    bm25: bool | None = None


@dataclass(frozen=True, slots=True)
class EvaluationRecipe:
    """Collection for the evaluation whenever the state is saved.

    Attributes:
        collections: Folders in BEIR layout, none of which may be trained on.
        queries: How many of each, at most.
        depth: How many of BM25's best are reranked.
    """

    collections: tuple[str, ...] = ()
    queries: int = 50
    depth: int = 50


@dataclass(frozen=True, slots=True)
class CardRecipe:
    """Texts of the model card, which cannot be measured.

    Attributes:
        name: The model's.
        license: An SPDX identifier.
        data: The data and its licences, in Markdown.
    """

    name: str = "a reranker"
    license: str = "other"
    data: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it.

    Attributes:
        student: What it starts as.
        data: What it reads.
        teacher: Whom it follows.
        training: For how long and how fast.
        lists: What a step is made of.
        healing: What comes first, for a converted student.
        evaluation: What is evaluated on as it goes.
        card: What the model card says.
    """

    student: StudentRecipe
    data: DataRecipe
    teacher: tuple[TeacherRecipe, ...]
    training: Settings
    lists: ListSettings = field(default_factory=ListSettings)
    healing: HealingRecipe | None = None
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    card: CardRecipe = field(default_factory=CardRecipe)

    def __post_init__(self) -> None:
        check_recipe(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: It cannot be read, or a field is unknown, missing, of the wrong kind or out of
            range, or does not go with another; the message names the field.
    """
    try:
        given = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError("recipe", f"{path} cannot be read: {error}") from error
    except RecursionError:
        raise InputError("recipe", f"{path} cannot be read: it is nested too deeply") from None
    return _build(Recipe, given, "")


def _build(kind: type[T], given: object, where: str) -> T:
    """A dataclass from a table, its fields checked against their annotations."""
    if not isinstance(given, dict):
        raise InputError("recipe", f"{where or 'the file'}: must be a table")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # only for dataclasses
    if unknown := sorted(set(given) - set(known)):
        raise InputError("recipe", f"{where}{unknown[0]}: no such field; there are {list(known)}")
    values = {}
    for name, one in known.items():
        if name in given:
            values[name] = _value(hints[name], given[name], f"{where}{name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise InputError("recipe", f"{where}{name}: is missing")
    return kind(**values)


def _value(hint: Any, given: object, where: str) -> Any:  # noqa: ANN401, PLR0911 - as annotated
    arguments = get_args(hint)
    if isinstance(hint, UnionType):
        (hint,) = (one for one in arguments if one is not NoneType)
        return _value(hint, given, where)
    origin = getattr(hint, "__origin__", hint)
    if hasattr(hint, "__dataclass_fields__"):
        return _build(hint, given, f"{where}.")
    if hint is torch.dtype and given in DTYPES:
        return DTYPES[str(given)]
    if origin is tuple and isinstance(given, list):
        return tuple(_value(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(given))
    if origin is Mapping and isinstance(given, dict):
        key, value = arguments
        try:
            return {key(k): _value(value, v, f"{where}.{k}") for k, v in given.items()}
        except ValueError:
            raise InputError("recipe", f"{where}: its keys must be of {key.__name__}") from None
    if hint is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if origin in {str, int, float, bool} and type(given) is origin:
        return given
    if origin is Literal and given in arguments:
        return given
    wanted = f"one of {sorted(DTYPES)}" if hint is torch.dtype else getattr(hint, "__name__", hint)
    raise InputError("recipe", f"{where}: must be {wanted}, not {given!r}")
