"""The collection of long manual pages, and how pages are read for it."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from scripts.build_manuals import MANUALS, parts, without_headings
from scripts.manual_pages import Section, read_html, read_pod
from tokenizers import Tokenizer

from jina_rerank.evaluation import Collection, read_beir

ROOT = Path(__file__).parents[2]
MANUALS_FOLDER = ROOT / "examples" / "data" / "manuals"
SUBJECTS = tuple(f"{manual.subject}: " for manual in MANUALS)


@pytest.fixture(scope="module")
def manuals() -> Collection:
    return read_beir(MANUALS_FOLDER)


def heading(query: str) -> str:
    for subject in SUBJECTS:
        query = query.removeprefix(subject)
    return query


def test_every_question_has_one_page(manuals: Collection) -> None:
    assert len(manuals.documents) > 300
    assert len(manuals.queries) > 250
    for grades in manuals.qrels.values():
        assert list(grades.values()) == [1]
        assert set(grades) <= set(manuals.documents)
    assert max(Counter(next(iter(g)) for g in manuals.qrels.values()).values()) <= 8
    assert len({query.lower() for query in manuals.queries.values()}) == len(manuals.queries)


def test_no_page_quotes_a_question(manuals: Collection) -> None:
    pages = "\n".join(manuals.documents.values()).lower()
    assert [q for q in manuals.queries.values() if heading(q).lower() in pages] == []


def test_pages_have_the_length_that_the_readme_says(manuals: Collection) -> None:
    model = ROOT / "models" / "mini" / "src" / "jina_rerank_mini" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(model))
    tokenizer.no_truncation()
    longest = sorted(manuals.documents.values(), key=len)
    for text in (longest[0], longest[len(longest) // 2], longest[-1]):
        assert 800 < len(tokenizer.encode(text).ids) < 10_000


def test_answers_begin_where_the_queries_say(manuals: Collection) -> None:
    with gzip.open(MANUALS_FOLDER / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        answer_at = {
            query["_id"]: query["metadata"]["answer_at"] for query in map(json.loads, lines)
        }
    with gzip.open(MANUALS_FOLDER / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = {page["_id"]: page["text"] for page in map(json.loads, lines)}
    for query, grades in manuals.qrels.items():
        before = texts[next(iter(grades))][: answer_at[query]]
        assert not before or before.endswith("\n\n")
    (answer,) = (
        texts[next(iter(manuals.qrels[query]))][answer_at[query] :]
        for query, text in manuals.queries.items()
        if text == "Perl: How do I permute N elements of a list?"
    )
    assert "List::Permutor" in answer[:300]


PAGE = """<html><head><title>Tea &amp; more &#8212; Manual</title></head><body><h1>Menu</h1>
<div class="body"><h1>Tea<a class="headerlink" href="#t">&para;</a></h1><p>About
 <b>tea</b>.</p><script>let x;</script><h2>1.2. Making <em>it</em></h2><ul><li>Boil.</li>
<li>Pour.</li></ul><pre>  cup
    saucer
</pre><dt class="q">Green?</dt><dd>Yes.</dd></div><div id="footer">End</div></body></html>"""


def test_html() -> None:
    title, sections = read_html(
        PAGE,
        begin='<div class="body">',
        end='<div id="footer"',
        question=r'<dt class="q">(.*?)</dt>',
    )
    assert title == "Tea & more — Manual"
    assert sections == [
        Section("Tea", "About tea."),
        Section("Making it", "Boil.\n\nPour.\n\n  cup\n    saucer"),
        Section("Green?", "Yes."),
    ]


POD = """use strict;

=head1 NAME

perltea - Tea in Perl

=head1 Brewing X<brew>

Use C<< $pot->brew >> or B<I<steep>()>; see L<perlcup/"Saucers"> and
L<the cup|perlcup>. E<lt>hotE<gt>

    $pot->pour;

=over

=item Green

Leaves.

=back

=cut

print "no text";

=head2 Is it hot?

Yes.
"""


def test_pod() -> None:
    title, sections = read_pod(POD)
    assert title == "perltea - Tea in Perl"
    assert sections == [
        Section(
            "Brewing",
            "Use $pot->brew or steep(); see perlcup and the cup. <hot>\n\n    $pot->pour;\n\n"
            "Green\n\nLeaves.",
        ),
        Section("Is it hot?", "Yes."),
    ]


def test_long_pages_are_taken_apart_between_sections() -> None:
    sections = [Section("", "x" * length) for length in (40, 40, 30, 50, 20)]
    assert list(parts(sections, 200)) == [sections]
    assert [[s.length for s in part] for part in parts(sections, 100)] == [[40, 40], [30, 50, 20]]
    assert list(parts([], 100)) == []


def test_quotations_of_headings_are_taken_out() -> None:
    text = 'See "How do I brew tea?" and how do I brew TEA? or How do I brew?'
    assert without_headings(text, ["How do I brew tea?"]) == 'See "" and  or How do I brew?'
