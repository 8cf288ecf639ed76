"""Names of systems on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..reranker import Reranker
from ..scorers.base import LongDocuments
from ..spec import parse, scorer_of
from .bi_encoder import BiEncoderSystem
from .systems import (
    FIRST_STAGE,
    Bm25System,
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
    """Builds systems from how they are spelled.

    Attributes:
        documents: The collection's documents, which BM25 counts words in.
        max_length: Longest pair in tokens of rerankers on this machine, and a bi-encoder's longest
            text. None is each one's default.
        long_documents: What rerankers on this machine do with longer ones; None likewise.
    """

    documents: Mapping[str, str]
    max_length: int | None = None
    long_documents: LongDocuments | None = None

    def build(self, spelled: str) -> System | MixedSystem:
        """The system, not loaded yet; its name is as it was spelled.

        Args:
            spelled: A reranker's name as for `scorer_of`; `bi-encoder:NAME` for an embedding model
                of sentence-transformers; `bm25`; `first-stage`; or `mix:A+B` for two of these,
                half and half, with weights as in `mix:0.3*first-stage+0.7*mini`.

        Raises:
            ConfigurationError: It cannot be read.
        """
        kind, colon, rest = spelled.partition(":")
        if colon and kind == "mix":
            return self._mix(spelled, rest)
        return self._single(spelled)

    def build_all(self, spelled: Sequence[str]) -> list[System | MixedSystem]:
        """The systems of one evaluation.

        Args:
            spelled: Each as for `build`.

        Raises:
            ConfigurationError: One cannot be read, or `max_length` or `long_documents` was given
                and no system has it.
        """
        systems = [self.build(one) for one in spelled]
        parts = [part for system in systems for part in parts_of(system)]
        cut = [part for part in parts if _runs_here(part)]
        takers = {
            "max_length": cut or [part for part in parts if isinstance(part, BiEncoderSystem)],
            "long_documents": cut,
        }
        for name, having in takers.items():
            if getattr(self, name) is not None and not having:
                raise ConfigurationError(
                    f"{name}: {', '.join(spelled)} does not have this option, which is for models "
                    "on this machine; leave it out"
                )
        return systems

    def _single(self, spelled: str) -> System:
        if spelled == FIRST_STAGE:
            return FirstStageSystem()
        spec = parse(spelled)
        if spec.kind == "bm25":
            return Bm25System(self.documents)
        if spec.kind == "bi-encoder":
            assert spec.name is not None
            return BiEncoderSystem(spec.name, name=spelled, max_length=self.max_length)
        if spec.runs_here:
            scorer = scorer_of(spec, max_length=self.max_length, long_documents=self.long_documents)
        else:
            scorer = scorer_of(spec)
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


def _runs_here(system: System) -> bool:
    return isinstance(system, RerankerSystem) and parse(system.name).runs_here
