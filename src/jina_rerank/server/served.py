"""The models that a service serves: their names, and the scorers that the settings name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

from ..errors import ConfigurationError
from ..ranking import Ranking
from ..reranker import Reranker
from ..scorers.base import ModelFacts, Scorer
from ..scorers.device import Dtype
from ..scorers.fallback import FallbackScorer
from ..scorers.in_process import InProcessScorer
from ..spec import Spec, has_option, parse, scorer_of, split_served
from .settings import Settings


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is served.

    Attributes:
        name: The model's name for clients.
        reranker: The reranker of the model.
        runs_here: True if the model computes in this process. Otherwise another service does, which
            receives nothing but the clients' requests.
        fallback: Name of the model that answers while that service fails; None if there is none.
        fallback_scorer: Scorer of that model if it computes in this process, otherwise None.
    """

    name: str
    reranker: Reranker
    runs_here: bool = True
    fallback: str | None = None
    fallback_scorer: InProcessScorer | None = None

    @property
    def in_process(self) -> InProcessScorer | None:
        """Scorer that computes in this process: the model's own, or its fallback's."""
        scorer = self.reranker.scorer
        return scorer if isinstance(scorer, InProcessScorer) else self.fallback_scorer

    @property
    def facts(self) -> ModelFacts | None:
        """Description of the model; None before it is loaded, and for other services' models."""
        scorer = self.reranker.scorer
        return scorer.facts if isinstance(scorer, InProcessScorer) else None


def find_models(settings: Settings) -> list[ServedModel]:
    """Create the models of the settings, without loading them.

    Raises:
        ConfigurationError: A model's name is invalid, or no model needs the fallback.
    """
    entries = [split_served(entry) for entry in settings.models]
    behind, second = None, None
    if settings.fallback:
        behind, model = split_served(settings.fallback)
        second = parse(dict(entries).get(behind, model))
    served = []
    for name, model in entries:
        spec = parse(model)
        if second is None or spec.runs_here or spec == second:
            scorer = _find_scorer(spec, settings, settings.deadline)
            served.append(ServedModel(name, Reranker(scorer), spec.runs_here))
            continue
        # Half of the deadline, so that there is time for the fallback after a service that hangs.
        timeout = settings.deadline / 2
        other = _find_scorer(second, settings, timeout)
        scorer = FallbackScorer(_find_scorer(spec, settings, timeout), other)
        served.append(
            ServedModel(
                name,
                Reranker(scorer),
                runs_here=False,
                fallback=behind,
                fallback_scorer=other if isinstance(other, InProcessScorer) else None,
            )
        )
    if behind is not None and all(model.fallback is None for model in served):
        raise ConfigurationError(
            "fallback: no other model here is asked of a service; serve a remote:MODEL beside it, "
            "or leave it out"
        )
    return served


def _find_scorer(spec: Spec, settings: Settings, timeout: float) -> Scorer:
    """Create a model's scorer; `timeout` is the deadline of a call to another service."""
    if not spec.runs_here:
        # The service's key is that of the environment; a client's key is never sent to it.
        return scorer_of(spec, timeout=timeout)
    dtype = cast("Dtype", settings.dtype) if has_option(spec, "dtype") else None
    return scorer_of(spec, dtype=dtype, max_length=settings.max_length)


def in_served_names(ranking: Ranking, model: ServedModel) -> Ranking:
    """Replace names by served names, and another service's message by one without its text."""
    if ranking.degraded is None:
        return dataclasses.replace(ranking, model=model.name)
    answered, unscored = model.name, len(ranking.unscored)
    reason = f"the service behind {model.name} gave a degraded answer"
    if ranking.model != model.reranker.model:
        answered = model.fallback or ranking.model
        reason = f"{model.name} could not answer; {answered} did"
    elif unscored:
        reason = f"{unscored:,} of the documents were not scored"
    return dataclasses.replace(ranking, model=answered, degraded=reason)
