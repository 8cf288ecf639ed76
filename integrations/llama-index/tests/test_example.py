"""The example in the repository, run as a reader would run it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "llama_index_rag.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="tested outside the repository")
def test_the_example_finds_the_accepted_answer(capsys):
    retrieved, reranked = runpy.run_path(str(EXAMPLE))["main"]()
    # 57 is the accepted answer in the collection's judgements.
    assert "57" not in [node.node_id for node in retrieved[:3]]
    assert reranked[0].node_id == "57"
    assert len(reranked) == 3
    assert "[57]" in capsys.readouterr().out.split("Reranked")[1]
