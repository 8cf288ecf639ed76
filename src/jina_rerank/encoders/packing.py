"""Grouping of pairs that are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def pack(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group sequences by length so that no group holds more than `budget` tokens.

    Longest first: if memory is going to run out, it does so in the first batch.

    Args:
        lengths: Tokens in each sequence.
        budget: Most tokens in a group. A longer sequence is a group by itself.

    Yields:
        Positions in `lengths`, each exactly once over all groups, neighbours of equal length
        together.
    """
    group: list[int] = []
    tokens = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if group and tokens + lengths[position] > budget:
            yield group
            group, tokens = [], 0
        group.append(position)
        tokens += lengths[position]
    if group:
        yield group
