import csv
import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "haystack_rag.py"


def test_it_finds_what_bm25_did_not(capsys):
    spec = importlib.util.spec_from_file_location("haystack_rag", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    retrieved, ranked = example.main()

    with (example.COFFEE / "qrels" / "test.tsv").open() as rows:
        answers = {
            row["corpus-id"]
            for row in csv.DictReader(rows, delimiter="\t")
            if row["query-id"] == "q431"  # example.QUERY
        }
    assert answers.isdisjoint(d.id for d in retrieved[:3])
    assert ranked[0].id in answers
    assert len(ranked) == 3
    printed = capsys.readouterr().out
    assert example.QUERY in printed
    assert all(f"[{d.id}]" in printed for d in (*retrieved[:3], *ranked))
