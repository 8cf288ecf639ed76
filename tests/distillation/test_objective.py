"""What a step of a distillation is made of."""

from __future__ import annotations

from tokenizers import Tokenizer

from jina_rerank.distillation.mining import CandidateList
from jina_rerank.distillation.objective import ListObjective, ListSettings
from jina_rerank.distillation.prepared import Prepared
from jina_rerank.jinabert import PairTokenizer
from jina_rerank.scorers.local import embedded_model_folder

FRAME = 3
"""[CLS], and a [SEP] behind each text."""


def lengths(settings: ListSettings, step: int, *, decay_from: int) -> set[int]:
    """Of a step's pairs."""
    passages = ["coffee " * 300, "tea " * 300, "milk"]
    lists = [CandidateList("drinks", "coffee", [0, 1, 2], [True, False, False])]
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    objective = ListObjective(
        Prepared(passages, lists, {"teacher": [[1.0, 0.5, 0.0]]}),
        {"teacher": 1.0},
        PairTokenizer(tokenizer),
        settings,
        decay_from=decay_from,
    )
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
