"""The parts of a distillation's step."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from jina_rerank import InputError
from jina_rerank.distillation.mining import CandidateList
from jina_rerank.distillation.objective import ListObjective, ListSettings
from jina_rerank.distillation.prepared import Prepared
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import PairTokenizer

FRAME = 3
"""[CLS], and a [SEP] behind each text."""


def objective_of(
    prepared: Prepared, settings: ListSettings, *, decay_from: int = 0
) -> ListObjective:
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    return ListObjective(
        prepared, {"teacher": 1.0}, PairTokenizer(tokenizer), settings, decay_from=decay_from
    )


def lengths(settings: ListSettings, step: int, *, decay_from: int) -> set[int]:
    """The lengths of a step's pairs."""
    passages = ["coffee " * 300, "tea " * 300, "milk"]
    lists = [CandidateList("drinks", "coffee", [0, 1, 2], [True, False, False])]
    prepared = Prepared(passages, lists, {"teacher": [[1.0, 0.5, 0.0]]})
    objective = objective_of(prepared, settings, decay_from=decay_from)
    return {length for share in objective.shares(step, 2) for length in share.batch.lengths}


def test_passages_are_short_until_the_learning_rate_falls() -> None:
    settings = ListSettings(
        blank=0.0, longest_passage_before_decay={20: 1.0}, longest_passage={100: 0.5, 200: 0.5}
    )
    query = milk = 1
    short, long = ({FRAME + query + cut for cut in cuts} for cuts in ((20,), (100, 200)))
    for step in (0, 6):
        assert lengths(settings, step, decay_from=7) == {FRAME + query + milk, *short}
    for step in (7, 8):
        assert lengths(settings, step, decay_from=7) == {FRAME + query + milk, *long}


def test_passages_are_as_long_throughout_unless_said_otherwise() -> None:
    settings = ListSettings(blank=0.0, longest_passage={100: 1.0})
    early, late = (lengths(settings, step, decay_from=7) for step in (0, 7))
    assert early == late == {FRAME + 2, FRAME + 101}


PASSAGES = ["one", "two", "three", "four"]
ANSWERED = {
    "first": ([True, False, False, False], [4, 3, 2, 1]),
    "second": ([True, False, False, False], [3, 4, 2, 1]),
    "third": ([True, False, False, False], [2, 4, 3, 1]),
    "its other answer is first": ([True, True, False, False], [1, 4, 3, 2]),
}
"""By query: which passages answer, and what the teacher thinks of them."""


def queries_of(objective: ListObjective) -> set[str]:
    """Requests of 40 steps."""
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    asked = set()
    for step in range(40):
        for share in objective.shares(step, 1):
            pairs = share.batch.input_ids.tolist()
            for start in share.batch.first.tolist():
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
        Prepared(PASSAGES, lists, scores), ListSettings(answer_within=within, tokens_per_step=100)
    )
    assert queries_of(objective) == left


def test_a_teacher_that_sees_no_answer_at_all_is_an_error() -> None:
    lists = [CandidateList("s", "q", range(4), [True, False, False, False])]
    prepared = Prepared(PASSAGES, lists, {"teacher": [[1.0, 2.0, 3.0, 4.0]]})
    with pytest.raises(InputError, match=r"lists\.answer_within: leaves no list; set it higher"):
        objective_of(prepared, ListSettings(answer_within=2))
