"""How systems are spelled on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..reranker import Reranker
from ..scorers._pairs import LongDocuments
from ..scorers.base import Scorer
from ..scorers.cross_encoder import CrossEncoderScorer
from ..scorers.local import LocalScorer
from ..scorers.remote import RemoteScorer
from .bi_encoder import BiEncoderSystem
from .systems import FIRST_STAGE, Bm25System, FirstStageSystem, MixedSystem, RerankerSystem, System

_SERVICE = re.compile(r"(?P<model>[^@]*)(?:@(?P<base_url>.*))?")
_PART = r"(?:(?P<{0}_weight>[0-9.]+)\*)?(?P<{0}>.+)"
_MIX = re.compile(_PART.format("first").replace(".+", ".+?") + r"\+" + _PART.format("second"))


@dataclass(frozen=True)
class Speller:
    """Builds systems from how they are spelled.

    Attributes:
        documents: The collection's documents, which BM25 counts words in.
        max_length: Longest pair in tokens, and a bi-encoder's longest text.
        long_documents: What rerankers on this machine do with longer ones.
    """

    documents: Mapping[str, str]
    max_length: int = 8192
    long_documents: LongDocuments = "truncate"

    def build(self, spelled: str) -> System | MixedSystem:
        """The system, not loaded yet; its name is as it was spelled.

        Args:
            spelled: `mini` or `jina-rerank-mini` for the embedded model; a folder or hub id of a
                JinaBERT reranker; `cross-encoder:NAME` and `bi-encoder:NAME` for models of
                sentence-transformers; `remote:MODEL` for Jina's service and `remote:MODEL@URL`
                for another; `bm25`; or `mix:A+B` for two of these or `first-stage`, half and
                half, with weights as in `mix:0.3*first-stage+0.7*mini`.

        Raises:
            ConfigurationError: It cannot be read.
        """
        kind, colon, rest = spelled.partition(":")
        if colon and kind == "mix":
            return self._mix(spelled, rest)
        return self._single(spelled)

    def _single(self, spelled: str) -> System:
        kind, colon, rest = spelled.partition(":")
        if colon and not rest:
            raise ConfigurationError(f"{spelled!r} lacks a name behind the colon")
        if spelled == FIRST_STAGE:
            return FirstStageSystem()
        if spelled == "bm25":
            return Bm25System(self.documents)
        if colon and kind == "bi-encoder":
            return BiEncoderSystem(rest, name=spelled, max_length=self.max_length)
        build: Callable[[str], Scorer] | None = {
            "cross-encoder": self._cross_encoder,
            "remote": _remote,
        }.get(kind if colon else "")
        scorer = build(rest) if build is not None else self._local(spelled)
        return RerankerSystem(Reranker(scorer), name=spelled)

    def _local(self, model: str) -> Scorer:
        return LocalScorer(
            model,
            max_length=self.max_length,
            long_documents=self.long_documents,
        )

    def _cross_encoder(self, model: str) -> Scorer:
        return CrossEncoderScorer(
            model, max_length=self.max_length, long_documents=self.long_documents
        )

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


def _remote(spelled: str) -> Scorer:
    match = _SERVICE.fullmatch(spelled)
    assert match is not None
    return RemoteScorer(match["model"] or None, base_url=match["base_url"])
