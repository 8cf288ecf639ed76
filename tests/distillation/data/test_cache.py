from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq
import pytest

from jina_rerank import Bm25Scorer, InputError, LocalScorer, ScoreRequest, ScoreResponse, Usage
from jina_rerank.distillation.data.cache import LISTS_PER_PART, prepare_lists, teach
from jina_rerank.distillation.data.negatives import CandidateList, mine
from jina_rerank.distillation.data.pairs import Source
from jina_rerank.distillation.teachers import ask, mix
from jina_rerank.scorers.base import OnScored, identity_of
from jina_rerank.testing import FakeScorer

WORDS = ["espresso", "filter", "grinder", "kettle", "roast", "crema", "aroma", "water"]


def coffee(size: int = 60) -> Source:
    """Passages of one rare word each and some common ones; a query asks for the rare one."""
    passages = [f"item{i} makes {WORDS[i % 8]} with {WORDS[i % 7]}" for i in range(size)]
    queries = {f"which {WORDS[i % 8]} has item{i}": [i] for i in range(0, size, 3)}
    return Source("coffee", passages, queries)


class Counting(FakeScorer):
    """A teacher that notes what it is asked: the length of each passage is its score."""

    listwise = False

    def __init__(self, fingerprint: str = "one") -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.asked = 0

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        self.asked += len(requests)
        return [
            ScoreResponse([float(len(text)) for text in one.documents], Usage(len(one.documents)))
            for one in requests
        ]


def test_lists_hold_the_answer_first_then_what_bm25_finds_then_others():
    source = coffee()
    for one in mine(source, 100, near=5, far=4, unrelated=2):
        (answer,) = source.queries[one.query]
        assert one.passages[0] == 100 + answer
        assert list(one.labels) == [True] + [False] * 11
        assert len(set(one.passages)) == 12
        word = source.passages[answer].split()[2]
        near = [source.passages[p - 100] for p in one.passages[1:6]]
        assert all(word in text for text in near)


def test_mining_is_a_matter_of_the_seed():
    lists = [list(mine(coffee(), 0, seed=seed)) for seed in (1, 1, 2)]
    assert lists[0] == lists[1] != lists[2]


def test_a_small_source_gives_shorter_lists():
    source = Source("two", ["green tea", "black tea"], {"green": [0], "tea": [0, 1]})
    first, second = mine(source, 0)
    assert (list(first.passages), list(first.labels)) == ([0, 1], [True, False])
    assert sorted(second.passages) == [0, 1]
    assert list(second.labels) == [True, True]


def test_a_query_without_a_known_word_gets_others():
    source = coffee()
    source.queries = {"the of and": [0], "zzz": [1]}
    for one in mine(source, 0):
        assert len(one.passages) == 12


def test_lists_are_read_again_and_made_anew_for_other_data(tmp_path):
    passages, lists = prepare_lists([coffee()], tmp_path)
    written = (tmp_path / "candidates.parquet").stat().st_mtime_ns
    again, read = prepare_lists([coffee()], tmp_path)
    assert (again, [(o.query, list(o.passages), list(o.labels)) for o in read]) == (
        passages,
        [(o.query, list(o.passages), list(o.labels)) for o in lists],
    )
    assert (tmp_path / "candidates.parquet").stat().st_mtime_ns == written
    more, _ = prepare_lists([coffee(63)], tmp_path)
    assert len(more) == 63


def test_positions_go_through_all_sources(tmp_path):
    passages, lists = prepare_lists(
        [coffee(30), Source("b", ["black tea"], {"tea": [0]})], tmp_path
    )
    assert passages[30] == "black tea"
    assert (lists[-1].source, list(lists[-1].passages)) == ("b", [30])


def test_no_pairs_is_an_error(tmp_path):
    with pytest.raises(InputError, match="pairs: there are none"):
        prepare_lists([], tmp_path)


def test_a_teacher_is_asked_once_and_after_a_kill_only_for_the_rest(tmp_path):
    numbers = range(LISTS_PER_PART + 5)
    lists = [CandidateList("s", f"q{i}", [0, 1], [True, False]) for i in numbers]
    passages = ["a", "bcd"]
    first = Counting()
    scores = teach("t", first, passages, lists, tmp_path)
    assert (first.asked, scores) == (LISTS_PER_PART + 5, [[1.0, 3.0]] * (LISTS_PER_PART + 5))

    (tmp_path / "scores/t/00001.parquet").unlink()
    second = Counting()
    assert teach("t", second, passages, lists, tmp_path) == scores
    assert second.asked == 5


def test_scores_of_another_teacher_or_other_texts_are_not_taken(tmp_path):
    lists = [CandidateList("s", "q", [0, 1], [True, False])]
    teach("t", Counting(), ["a", "bcd"], lists, tmp_path)
    other = Counting("two")
    teach("t", other, ["a", "bcd"], lists, tmp_path)
    assert other.asked == 1
    assert teach("t", Counting("two"), ["a", "longer"], lists, tmp_path) == [[1.0, 6.0]]


def test_a_part_that_was_cut_off_is_made_anew(tmp_path):
    lists = [CandidateList("s", "q", [0], [True])]
    teach("t", Counting(), ["a"], lists, tmp_path)
    part = tmp_path / "scores/t/00000.parquet"
    part.write_bytes(part.read_bytes()[:20])
    assert teach("t", Counting(), ["a"], lists, tmp_path) == [[1.0]]
    assert pq.read_table(part)["scores"].to_pylist() == [[1.0]]


def test_bm25_teaches_what_words_tell():
    passages = coffee().passages
    scores = ask(Bm25Scorer(passages), [("item7", [passages[7], passages[8]])])
    assert scores[0][0] > scores[0][1] == 0


def test_a_scorer_teaches_its_logits():
    scorer = LocalScorer()
    documents = ["Espresso is brewed under pressure.", "The moon is far away."]
    ((first, second),) = ask(scorer, [("how is espresso made?", documents)])
    assert first > second
    assert not 0 < first < 1 or not 0 < second < 1
    assert "mini" in identity_of(scorer)


def test_a_mix_weighs_teachers_of_any_scale_alike():
    scores = {"a": [1.0, 2.0, 3.0], "b": [3000.0, 2000.0, 1000.0], "c": [5.0, 5.0, 5.0]}
    assert mix(scores, {"a": 1, "b": 1}, 3) == pytest.approx([0, 0, 0], abs=1e-6)
    assert mix(scores, {"a": 1, "c": 9}, 3)[2] == pytest.approx(0.1 * 1.2247, rel=1e-3)
    assert list(mix(scores, {"a": 3, "b": 1}, 3).argsort()) == [0, 1, 2]
