from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jina_rerank.encoders import pack

lengths = st.lists(st.integers(1, 300), max_size=80)


@given(lengths=lengths, budget=st.integers(1, 500))
def test_every_sequence_once_within_the_budget_longest_first(
    lengths: list[int], budget: int
) -> None:
    groups = list(pack(lengths, budget))
    flat = [position for group in groups for position in group]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    for group in groups:
        assert len(group) == 1 or sum(lengths[i] for i in group) <= budget


@given(lengths=lengths, budget=st.integers(1, 500))
def test_no_group_is_opened_while_there_is_room(lengths: list[int], budget: int) -> None:
    groups = list(pack(lengths, budget))
    for group, following in pairwise(groups):
        assert sum(lengths[i] for i in group) + lengths[following[0]] > budget
