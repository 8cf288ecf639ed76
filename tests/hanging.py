"""A replica of the service whose model can be made to hang."""

import threading
from collections.abc import Sequence
from pathlib import Path

from serving import GatedModel, served

from jina_rerank.encoders import TokenPair
from jina_rerank.ray.serving import Replica
from jina_rerank.server import ServedModel, Settings

TRAP = "a document in which computing gets lost"


class HangingModel(GatedModel):
    """Never comes back from a batch with that document."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self._trap,) = self.tokenizer.encode([TRAP])

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        if any(self._trap.tobytes() in pair.input_ids.tobytes() for pair in pairs):
            threading.Event().wait()
        return super().logits(pairs)


class HangingReplica(Replica):
    """Serves it, with the tokenizer of the model in the settings."""

    def find_models(self, settings: Settings) -> list[ServedModel]:
        (folder,) = settings.models
        return served(HangingModel(Path(folder)))
