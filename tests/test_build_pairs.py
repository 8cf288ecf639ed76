"""The script that builds the embedded model's training pairs, on small files of each kind."""

import gzip
import importlib.util
import json
import sqlite3
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "models/mini/training/build_pairs.py"

PAGE = """<html><head><meta charset="utf-8"><title>Plants — a manual</title>
<script>skipped()</script></head><body><nav>Previous Next</nav><h1>Chapter 3. Watering¶</h1>
<p>Most plants that live in pots die of too much water. Feel the earth with a finger first. It
should be dry to the first joint of it. In winter once a week is often enough. Rain water is best
of all for them.</p>
<h2>40.3-3 Roses</h2><p>Too short.</p>
<h2>Fertilizer</h2><p>%s</p></body></html>"""
CODE = "x[1] = {2: 3}; " * 20


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_pairs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
        spec.loader.exec_module(module)
    return module


def dictionary(folder: Path, text: str) -> Path:
    with gzip.open(folder / "words.dict.dz", "wt", encoding="utf-8") as file:
        file.write(text)
    return folder


def test_a_page_gives_the_section_that_is_prose_and_a_sentence_of_it(build, tmp_path) -> None:
    (tmp_path / "page.html").write_text(PAGE % CODE, encoding="utf-8")
    heading, stated = build.from_pages("plants", tmp_path)
    assert heading.query == "Plants: Watering"
    assert heading.passage == stated.passage
    assert stated.query not in stated.passage
    whole = {*f"{stated.query}. {stated.passage}".replace(".", "").split()}
    assert {"pots", "finger", "joint", "winter"} <= whole
    assert not {"Previous", "skipped()", "short"} & whole


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Chapter 3. Watering¶", "Watering"),
        ("40.3-3 Mappings given by functions", "Mappings given by functions"),
        ("A.2 Files", "Files"),
        ("Appendix B. Errors", "Errors"),
        ("12 Arrays", "Arrays"),
        ("IP addresses", "IP addresses"),
        ("A simple example", "A simple example"),
        ("3D graphics", "3D graphics"),
    ],
)
def test_headings_lose_their_numbers(build, heading, expected) -> None:
    assert build.clean(heading) == expected


def test_a_passage_of_what_is_tested_on_is_left_out(build) -> None:
    tested = build.grams("the quick brown fox jumps over the lazy dog and runs away at once")
    same = build.Pair("q", "The quick brown fox jumps over the lazy dog, and then it sleeps", "s")
    other = build.Pair("q", "A slow brown fox jumps over nothing at all and never runs", "s")
    assert build.overlaps(same, tested)
    assert not build.overlaps(other, tested)


def test_what_came_before_is_not_written_again(build, tmp_path) -> None:
    pair = build.Pair("How?", "Like this.", "s")
    build.write(tmp_path / "s.jsonl", [pair, build.Pair("how?", "Like this.", "s")])
    (line,) = (tmp_path / "s.jsonl").read_text().splitlines()
    assert json.loads(line) == {"query": "How?", "passage": "Like this.", "source": "s"}


def test_computing_terms(build, tmp_path) -> None:
    folder = dictionary(
        tmp_path,
        "00-database-info\n   This is no word, and however many words it has it is not a passage, "
        "since it is about the file that it stands in.\n"
        "actor model\n\n   <theory> A model for {concurrency} in which each actor has an address\n"
        "   and a mailbox, [Hewitt et al, 1977] and sends messages to others that it knows of.\n"
        "   (1994-11-08)\n",
    )
    (pair,) = build.from_foldoc(folder)
    assert pair.query == "actor model"
    assert pair.passage.startswith("A model for concurrency in which")
    assert pair.passage.endswith("that it knows of.")
    assert "Hewitt" not in pair.passage


def test_words_of_a_dictionary(build, tmp_path) -> None:
    folder = dictionary(
        tmp_path,
        'Dichogamy \\Di*chog"a*my\\, n. [Gr. ? in two.] (Bot.)\n   The condition of certain '
        "species of plants, in which the stamens and\n   {pistil} do not mature simultaneously.\n"
        "   [1913 Webster]\n\nAffear \\Af*fear\\, v. t.\n   To frighten. --Spenser.\n",
    )
    (pair,) = build.from_webster(folder)
    assert pair.query == "Dichogamy"
    assert pair.passage.startswith("The condition of certain")
    assert pair.passage.endswith("and pistil do not mature simultaneously.")


def test_genes(build, tmp_path) -> None:
    meaning = "The distribution of mitochondria into daughter cells after mitosis or after meiosis."
    with sqlite3.connect(tmp_path / "GO.sqlite") as database:
        database.execute("CREATE TABLE go_term (_id, go_id, term, ontology, definition)")
        database.execute("CREATE TABLE go_synonym (_id, synonym, secondary, like_go_id)")
        database.executemany(
            "INSERT INTO go_term VALUES (?, '', ?, 'BP', ?)",
            [(2, "mitochondrion inheritance", meaning), (3, "short", "Too short."), (4, "x", None)],
        )
        database.execute("INSERT INTO go_synonym VALUES (2, 'GO:0001', 'GO:0001', 1)")
    database.close()
    (pair,) = build.from_gene_ontology(tmp_path)
    assert (pair.query, pair.passage) == ("mitochondrion inheritance", meaning)


def test_countries(build, tmp_path) -> None:
    economy = "Norway lives of oil, gas and fish, and saves what it earns in a fund for later. " * 2
    profile = {
        "Government": {"Country name": {"conventional short form": {"text": "Norway"}}},
        "Economy": {"Economy - overview": {"text": economy}, "Airports": {"text": "95 (2013)"}},
    }
    file = tmp_path / "factbook" / "europe" / "no.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(profile))
    (pair,) = build.from_factbook(tmp_path)
    assert pair.query == "Economy overview of Norway"
    assert pair.passage == economy.strip()


def test_the_pairs_appear_when_all_sources_are_written(build, tmp_path, monkeypatch) -> None:
    """As if the packages had been downloaded, with a page each, and the script killed once."""
    out = tmp_path / "out"
    held = build.Path(build.__file__).parent / "pairs"
    page = tmp_path / "package" / "page.html"
    page.parent.mkdir()
    page.write_text(PAGE % CODE, encoding="utf-8")
    monkeypatch.setattr(build, "TESTED_ON", [])
    monkeypatch.setattr(build, "PACKAGES", {"plants": ""})
    monkeypatch.setattr(build, "unpack", lambda package, folder: page.parent)
    others = ("descriptions", "wordnet", "gene_ontology", "foldoc", "webster", "factbook")
    for name in others:
        monkeypatch.setattr(build, f"from_{name}", lambda folder: iter(()))
    monkeypatch.setattr(sys, "argv", ["build_pairs.py", str(out)])

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "from_foldoc", killed)
        with pytest.raises(KeyboardInterrupt):
            build.main()
    assert not (out / "pairs").exists()

    build.main()
    names = {file.name.split(".")[0] for file in (out / "pairs").iterdir()}
    assert {"plants", "foldoc", *(file.name.split(".")[0] for file in held.iterdir())} <= names
    assert not (out / "pairs.new").exists()
    assert (out / "pairs" / "plants.jsonl").read_text().count("Watering") == 1
