"""The parts of a distillation's step."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from jina_rerank import InputError
from jina_rerank.distillation.data.cache import Prepared
from jina_rerank.distillation.data.negatives import CandidateList
from jina_rerank.distillation.training.ranking import RankingObjective, RankingSettings
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import PairTokenizer

FRAME = 3
"""[CLS], and a [SEP] behind each text."""


def objective_of(prepared: Prepared, settings: RankingSettings) -> RankingObjective:
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    return RankingObjective(prepared, {"teacher": 1.0}, PairTokenizer(tokenizer), settings)


def test_passages_are_cut_where_the_recipe_says() -> None:
    passages = ["coffee " * 300, "tea " * 300, "milk"]
    lists = [CandidateList("drinks", "coffee", [0, 1, 2], [True, False, False])]
    prepared = Prepared(passages, lists, {"teacher": [[1.0, 0.5, 0.0]]})
    settings = RankingSettings(blank_rate=0.0, longest_passage={100: 0.5, 200: 0.5})
    objective = objective_of(prepared, settings)
    batches = [batch for step in range(4) for batch in objective.micro_batches(step, 2)]
    query = milk = 1
    assert {length for one in batches for length in one.batch.lengths} == {
        FRAME + query + milk, FRAME + query + 100, FRAME + query + 200,
    }  # fmt: skip


def test_default_lengths_are_shortened_to_what_the_student_reads() -> None:
    plenty, bert, tiny = (RankingSettings().within(room) for room in (8189, 509, 29))
    assert plenty == RankingSettings()
    assert (bert.longest_query, bert.longest_passage) == (64, {128: 0.35, 256: 0.4, 445: 0.25})
    assert (tiny.longest_query, tiny.longest_passage) == (14, {15: 1.0})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"longest_passage": {128: 0.5, 512: 0.5}},
            "longest_passage: 512 does not fit: the student reads 509 tokens .* to 445 or less",
        ),
        ({"longest_query": 509}, "longest_query: 509 leaves no room .* 509 .* to 254 or less"),
    ],
)
def test_lengths_that_the_student_cannot_read_are_refused(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=rf"^recipe: ranking\.{said}"):
        RankingSettings.model_validate(given).within(509)


def test_a_length_that_is_never_drawn_is_no_fault() -> None:
    settings = RankingSettings(longest_passage={128: 1.0, 2048: 0.0}).within(509)
    assert settings.longest_passage[128] == 1.0


PASSAGES = ["one", "two", "three", "four"]
ANSWERED = {
    "first": ([True, False, False, False], [4, 3, 2, 1]),
    "second": ([True, False, False, False], [3, 4, 2, 1]),
    "third": ([True, False, False, False], [2, 4, 3, 1]),
    "its other answer is first": ([True, True, False, False], [1, 4, 3, 2]),
}
"""By query: which passages answer, and what the teacher thinks of them."""


def queries_of(objective: RankingObjective) -> set[str]:
    """List what 40 steps ask."""
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    asked = set()
    for step in range(40):
        for batch in objective.micro_batches(step, 1):
            pairs = batch.batch.input_ids.tolist()
            for start in batch.batch.first.tolist():
                end = pairs.index(tokenizer.token_to_id("[SEP]"), start)
                asked.add(tokenizer.decode(pairs[start + 1 : end]))
    return asked


@pytest.mark.parametrize(
    ("within", "left"),
    [
        (None, set(ANSWERED)),
        (3, set(ANSWERED)),
        (2, {"first", "second", "its other answer is first"}),
        (1, {"first", "its other answer is first"}),
    ],
)
def test_lists_whose_answer_the_teacher_does_not_see_are_left_out(
    within: int | None, left: set[str]
) -> None:
    lists = [CandidateList("s", q, range(4), labels) for q, (labels, _) in ANSWERED.items()]
    scores = {"teacher": [list(map(float, scores)) for _, scores in ANSWERED.values()]}
    objective = objective_of(
        Prepared(PASSAGES, lists, scores),
        RankingSettings(consistency=within, tokens_per_step=100),
    )
    assert queries_of(objective) == left


def test_a_teacher_that_sees_no_answer_at_all_is_an_error() -> None:
    lists = [CandidateList("s", "q", range(4), [True, False, False, False])]
    prepared = Prepared(PASSAGES, lists, {"teacher": [[1.0, 2.0, 3.0, 4.0]]})
    with pytest.raises(InputError, match=r"ranking\.consistency: leaves no list; set it higher"):
        objective_of(prepared, RankingSettings(consistency=2))
