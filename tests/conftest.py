from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Examples come from a fixed seed, so that a failure on one machine is a failure on all; and a
# busy machine is no reason to fail.
settings.register_profile(
    "default", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def golden() -> Path:
    """A random checkpoint with logits that an independent implementation computed."""
    return Path(__file__).parent / "data" / "golden" / "h4"


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint with a BPE tokenizer. Not to be changed."""
    pytest.importorskip("torch")  # which some environments lack
    from checkpoints import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("small"))
