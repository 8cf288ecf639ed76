"""Parsing of systems' names on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..reranker import Reranker
from ..scorers.base import LongDocuments
from ..scorers.device import Dtype
from ..spec import EMBEDDING, Spec, collection_scorer_of, has_option, parse
from .systems import (
    FIRST_STAGE,
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    System,
    parts_of,
)

_PART = r"(?:(?P<{0}_weight>[0-9.]+)\*)?(?P<{0}>.+)"
_MIX = re.compile(_PART.format("first").replace(".+", ".+?") + r"\+" + _PART.format("second"))


@dataclass(frozen=True)
class Speller:
    """Builds systems from their names on the command line.

    Attributes:
        documents: The collection's documents, in which BM25 counts words.
        max_length: Maximum tokens of a pair for models on this machine, and of a text for embedding
            models. None for each model's default.
        long_documents: Treatment of longer documents; None for each model's default.
        dtype: Data type of rerankers in torch; None for each model's default.
    """

    documents: Mapping[str, str]
    max_length: int | None = None
    long_documents: LongDocuments | None = None
    dtype: Dtype | None = None

    def build(self, spelled: str) -> System | MixedSystem:
        """Build a system, which is not loaded yet and has the given name.

        Args:
            spelled: A model's name as for `collection_scorer_of`; `first-stage`; or `mix:A+B` for
                two of these with equal weights, or other weights as in
                `mix:0.3*first-stage+0.7*mini`.

        Raises:
            ConfigurationError: The name is invalid.
        """
        kind, colon, rest = spelled.partition(":")
        if colon and kind == "mix":
            return self._mix(spelled, rest)
        return self._single(spelled)

    def build_all(self, spelled: Sequence[str]) -> list[System | MixedSystem]:
        """Build the systems of one evaluation.

        Args:
            spelled: Names, each as for `build`.

        Raises:
            ConfigurationError: A name is invalid, or `max_length`, `long_documents` or `dtype`
                was given and no system has this option.
        """
        systems = [self.build(one) for one in spelled]
        parts = [part for system in systems for part in parts_of(system)]
        specs = [parse(part.name) for part in parts if isinstance(part, RerankerSystem)]
        cut = any(has_option(spec, "max_length") for spec in specs)
        in_torch = any(map(_is_reranker_in_torch, specs))
        for name, usable, models in (
            ("max_length", cut, "models on this machine"),
            ("long_documents", cut, "models on this machine"),
            ("dtype", in_torch, "rerankers in torch"),
        ):
            if getattr(self, name) is not None and not usable:
                raise ConfigurationError(
                    f"{name}: {', '.join(spelled)} does not have this option, which is for "
                    f"{models}; leave it out"
                )
        return systems

    def _single(self, spelled: str) -> System:
        if spelled == FIRST_STAGE:
            return FirstStageSystem()
        spec = parse(spelled)
        cuts = has_option(spec, "max_length")
        scorer = collection_scorer_of(
            spec,
            self.documents.values(),
            max_length=self.max_length if cuts else None,
            long_documents=self.long_documents if cuts else None,
            dtype=self.dtype if _is_reranker_in_torch(spec) else None,
        )
        return RerankerSystem(Reranker(scorer), name=spelled)

    def _mix(self, spelled: str, rest: str) -> MixedSystem:
        match = _MIX.fullmatch(rest)
        weights = match and (match["first_weight"], match["second_weight"])
        if match is None or (weights and (weights[0] is None) != (weights[1] is None)):
            raise ConfigurationError(
                f"{spelled!r} must be mix:A+B, or with both weights mix:0.3*A+0.7*B"
            )
        try:
            first, second = (float(weight or 0.5) for weight in weights or ())
            share = first / (first + second)
        except (ValueError, ZeroDivisionError):
            raise ConfigurationError(f"{spelled!r} has a weight that is no number") from None
        return MixedSystem(
            spelled, self._single(match["first"]), self._single(match["second"]), share
        )


def _is_reranker_in_torch(spec: Spec) -> bool:
    return has_option(spec, "dtype") and spec.kind not in EMBEDDING
