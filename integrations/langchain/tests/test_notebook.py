"""The example notebook, cell by cell, as a kernel runs it."""

import ast
import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "examples" / "jina_rerank.ipynb"


def run_cells(path):
    """The value of each code cell's last expression, which a notebook shows."""
    namespace, shown = {}, []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(path), "exec"), namespace)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(path), "eval"), namespace))
    return shown


def test_the_notebook_puts_the_passages_about_storing_first():
    found, reranked, *_ = run_cells(NOTEBOOK)
    assert len(found) == 4
    texts = [text for _, text in reranked]
    assert texts[0] == "Coffee beans keep best in an airtight jar, away from light."
    assert "stored in the freezer" in texts[1]
    assert reranked[0][0] > reranked[1][0]


def test_it_is_checked_in_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)
