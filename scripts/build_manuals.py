"""Build examples/data/manuals: real questions, and the long manual pages that answer them.

    python -m scripts.build_manuals examples/data/manuals [--packages FOLDER]

The pages come from Debian's documentation packages, which are downloaded with `apt-get download`
into FOLDER unless they are there, and unpacked, not installed. The same packages always give the
same files, byte for byte.

The questions are headings of the manuals' own FAQs. A heading is taken out of its page and out of
every place that quotes it, so that its words alone do not give the page away; what is left of the
page, answers to other questions before and after it, is the one relevant document.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path

from scripts.manual_pages import Section, read_html, read_pod

SHORTEST, LONGEST, LONGEST_FAQ = 4_000, 32_000, 20_000
"""Characters of a document: some 1,000, 9,000 and 6,000 tokens. A longer page is taken apart."""
SHORTEST_ANSWER = 250
"""Characters. Shorter ones say no more than where the answer is."""
QUESTIONS_EACH = 8
"""Questions that one document may answer, so that no page decides the whole measure."""
QUESTION_WORDS = (4, 30)
LICENCES = ("GPL-2", "Artistic")
"""As they lie in every Debian system; the other licences are in the packages' own notices."""


@dataclass(frozen=True)
class Manual:
    """Where the pages of one manual lie, and how to read them.

    Attributes:
        package: The Debian package.
        subject: What a query is about, put before questions that do not say it themselves.
        root: The folder of the pages in the package.
        faqs: Patterns, below `root`, of the pages whose headings are questions.
        others: Patterns of the pages that compete with them.
        left_out: Names that match a pattern but are lists, histories or translations.
        quota: How many documents of the other pages to keep.
        begin: What stands right before the text of an HTML page.
        end: What stands right after it.
        question: What a question looks like where it is not a heading, with one group.
    """

    package: str
    subject: str
    root: str
    faqs: tuple[str, ...]
    others: tuple[str, ...]
    quota: int
    left_out: str = r"^$"
    begin: str = "<body"
    end: str = "</body"
    question: str | None = None


MANUALS = (
    Manual(
        package="perl-doc",
        subject="Perl",
        root="usr/share/perl/5.36.0/pod",
        faqs=("perlfaq[1-9].pod", "perlunifaq.pod"),
        others=("perl*.pod",),
        left_out=r"perl(\d+)?delta|perltoc|perlfaq$|perl(cn|jp|ko|tw)|perl(hist|apio|modlib|artistic|gpl)",
        quota=80,
    ),
    Manual(
        package="python3.11-doc",
        subject="Python",
        root="usr/share/doc/python3.11/html",
        faqs=("faq/*.html",),
        others=tuple(
            f"{part}/*.html"
            for part in ("howto", "tutorial", "library", "reference", "using", "extending", "c-api")
        ),
        left_out=r"index|contents",
        quota=80,
        begin='<div class="body" role="main">',
        end='<div class="sphinxsidebar"',
    ),
    Manual(
        package="python-django-doc",
        subject="Django",
        root="usr/share/doc/python-django-doc/html",
        faqs=("faq/*.html",),
        others=("howto/**/*.html", "intro/*.html", "topics/**/*.html", "ref/**/*.html"),
        left_out=r"index",
        quota=50,
        begin='<div class="yui-g"',
        end='id="sidebar"',
    ),
    Manual(
        package="git-doc",
        subject="Git",
        root="usr/share/doc/git-doc",
        faqs=("gitfaq.html",),
        others=("git*.html", "user-manual.html", "My*.html"),
        quota=45,
        end='<div id="footer"',
        question=r'<dt class="hdlist1">(.*?)</dt>',
    ),
    Manual(
        package="sqlite3-doc",
        subject="SQLite",
        root="usr/share/doc/sqlite3",
        faqs=(),
        others=("*.html",),
        left_out=r"faq|index|changes|chronology|releaselog|\d|keyword|sitemap|copyright|famous",
        quota=40,
        begin="</script>",
    ),
)


@dataclass(frozen=True)
class Page:
    """A page as it was read.

    Attributes:
        name: The manual's subject and the file.
        title: Its heading.
        sections: In their order.
        subject: Subject of the questions that are its headings; None where it is no FAQ.
    """

    name: str
    title: str
    sections: list[Section]
    subject: str | None


@dataclass(frozen=True)
class Question:
    """One heading of a FAQ.

    Attributes:
        query: As it is asked: with the subject, if the heading does not say it.
        answer_at: Where its answer begins in the document, in characters.
    """

    query: str
    answer_at: int


@dataclass(frozen=True)
class Document:
    """A page, or a part of a long one.

    Attributes:
        id: The manual, the page and the part.
        title: The page's.
        text: Without the headings that are questions.
        questions: Those that this document answers.
    """

    id: str
    title: str
    text: str
    questions: list[Question] = field(default_factory=list)


def unpack(package: str, downloads: Path, into: Path) -> Path:
    """Download a package unless it is there, and unpack it.

    Args:
        package: Its name.
        downloads: Where the packages are kept.
        into: Where to unpack.

    Returns:
        The folder with its files.
    """
    if not (found := sorted(downloads.glob(f"{package}_*.deb"))):
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=downloads, check=True)
        found = sorted(downloads.glob(f"{package}_*.deb"))
    folder = into / package
    subprocess.run(["dpkg-deb", "--extract", str(found[-1]), str(folder)], check=True)
    print(f"{found[-1].name} {hashlib.sha256(found[-1].read_bytes()).hexdigest()}")
    return folder


def pages(manual: Manual, folder: Path, *, faqs: bool) -> Iterator[Page]:
    """Read the manual's FAQs or its other pages, in the order of their names."""
    root = folder / manual.root
    found = {path for pattern in manual.faqs for path in root.glob(pattern)}
    if not faqs:
        found = {path for pattern in manual.others for path in root.glob(pattern)} - found
    for path in sorted(found):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not faqs and re.search(manual.left_out, name):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        title, sections = (
            read_pod(text)
            if path.suffix == ".pod"
            else read_html(text, begin=manual.begin, end=manual.end, question=manual.question)
        )
        subject = manual.subject if faqs else None
        yield Page(f"{manual.subject.lower()}/{name}", title, sections, subject)


def is_question(section: Section) -> bool:
    """Tell whether its heading can be asked, and its body says something."""
    shortest, longest = QUESTION_WORDS
    words = len(section.heading.split())
    return (
        section.heading.endswith("?")
        and shortest <= words <= longest
        and len(section.body) >= SHORTEST_ANSWER
    )


def parts(sections: list[Section], longest: int) -> Iterator[list[Section]]:
    """Take a page apart between its sections, into parts of about the same length."""
    total = sum(section.length for section in sections)
    goal = total / ceil(total / longest) if total else 0
    part: list[Section] = []
    done = 0
    for section in sections:
        if part and done + section.length / 2 > goal:
            yield part
            part, done = [], 0
        part.append(section)
        done += section.length
    if part:
        yield part


def document(name: str, page: Page, sections: list[Section]) -> Document:
    """Join sections of a page to one document.

    Args:
        name: Its id.
        page: The page.
        sections: Some of its sections, in their order.
    """
    text, questions = "", []
    for section in sections:
        if page.subject is not None and section.heading.endswith("?"):
            if is_question(section):
                named = page.subject.lower() in section.heading.lower()
                query = section.heading if named else f"{page.subject}: {section.heading}"
                questions.append(Question(query, len(text)))
            text += section.body.strip() + "\n\n"
        elif section.text:
            text += section.text + "\n\n"
    return Document(name, page.title, text.strip(), questions)


def documents(page: Page, headings: Sequence[str]) -> Iterator[Document]:
    """The documents of a page that have the right length.

    Args:
        page: The page.
        headings: All questions, the longest first: one may be part of another.
    """
    split = list(parts(page.sections, LONGEST if page.subject is None else LONGEST_FAQ))
    for number, part in enumerate(split, 1):
        name = page.name + (f"#{number}" if len(split) > 1 else "")
        quiet = [replace(s, body=without_headings(s.body, headings)) for s in part]
        made = document(name, page, quiet)
        if SHORTEST <= len(made.text) <= LONGEST * 1.25 and (made.questions or not page.subject):
            yield made


def by_chance(items: Iterable[str]) -> list[str]:
    """An order that has nothing to do with what the items say, the same every time."""
    return sorted(items, key=lambda item: hashlib.sha256(item.encode()).digest())


def without_headings(text: str, headings: Iterable[str]) -> str:
    """The text without quotations of headings, as cross-references make them."""
    lower = text.lower()
    for heading in headings:
        if heading.lower() in lower:
            text = re.sub(re.escape(heading), "", text, flags=re.IGNORECASE)
            lower = text.lower()
    return text


def collect(folders: Mapping[Manual, Path]) -> list[Document]:
    """The whole collection: the FAQs' documents, and as many others as the quotas say.

    Args:
        folders: Where each manual's package was unpacked.
    """
    faqs = [page for pair in folders.items() for page in pages(*pair, faqs=True)]
    questions = {s.heading for page in faqs for s in page.sections if is_question(s)}
    headings = sorted(questions, key=lambda heading: (-len(heading), heading))
    competing: list[Document] = []
    for manual, folder in folders.items():
        read = pages(manual, folder, faqs=False)
        others = {made.id: made for page in read for made in documents(page, headings)}
        competing += [others[name] for name in by_chance(others)[: manual.quota]]
    answering = [made for page in faqs for made in documents(page, headings)]
    asked = Counter(q.query.lower() for made in answering for q in made.questions)
    for number, made in enumerate(answering):
        once = [q for q in made.questions if asked[q.query.lower()] == 1]
        chosen = by_chance(question.query for question in once)[:QUESTIONS_EACH]
        answering[number] = replace(made, questions=[q for q in once if q.query in chosen])
    return sorted(answering + competing, key=lambda made: made.id)


def copy_notices(folders: Mapping[Manual, Path], into: Path) -> None:
    """Copy the packages' copyright files, and the licences that they only name."""
    into.mkdir(exist_ok=True)
    for manual, folder in folders.items():
        notice = folder / "usr/share/doc" / manual.package / "copyright"
        shutil.copyfile(notice, into / f"{manual.package}.txt")
    for licence in LICENCES:
        shutil.copyfile(Path("/usr/share/common-licenses") / licence, into / f"{licence}.txt")


def write_lines(path: Path, lines: Iterable[object]) -> None:
    """Write JSON lines, packed, with nothing of the day or the machine in the file."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main() -> None:
    """Build the collection and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path)
    kept = Path(tempfile.gettempdir()) / "manual-packages"
    parser.add_argument("--packages", type=Path, default=kept, help=f"default: {kept}")
    arguments = parser.parse_args()
    output: Path = arguments.output
    arguments.packages.mkdir(parents=True, exist_ok=True)
    (output / "qrels").mkdir(parents=True, exist_ok=True)
    downloads: Path = arguments.packages.resolve()
    with tempfile.TemporaryDirectory() as unpacked:
        folders = {one: unpack(one.package, downloads, Path(unpacked)) for one in MANUALS}
        collection = collect(folders)
        copy_notices(folders, output / "licenses")
    asked = [(made.id, question) for made in collection for question in made.questions]
    write_lines(
        output / "corpus.jsonl.gz",
        ({"_id": made.id, "title": made.title, "text": made.text} for made in collection),
    )
    write_lines(
        output / "queries.jsonl.gz",
        (
            {"_id": f"q{n}", "text": question.query, "metadata": {"answer_at": question.answer_at}}
            for n, (_, question) in enumerate(asked, 1)
        ),
    )
    judged = "".join(f"q{n}\t{name}\t1\n" for n, (name, _) in enumerate(asked, 1))
    (output / "qrels" / "test.tsv").write_text(
        f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8"
    )
    characters = sum(len(made.text) for made in collection)
    answering = sum(1 for made in collection if made.questions)
    print(f"{len(collection)} documents, {answering} of them answer, {characters:,} characters")
    print(f"{len(asked)} questions")


if __name__ == "__main__":
    main()
