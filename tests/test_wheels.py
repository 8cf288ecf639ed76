"""The five wheels, as a user meets them: built, installed into empty environments, used."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import httpx
import pytest
from faults import FaultServer
from judged import write_beir
from serve_processes import is_ready, serving
from serving import until

ROOT = Path(__file__).parents[1]
CODE = {
    "jina_rerank": "jina_rerank/",
    "llama_index_postprocessor_jina_rerank": "llama_index/postprocessor/jina_rerank/",
    "langchain_jina_rerank": "langchain_jina_rerank/",
    "jina_rerank_haystack": "haystack_integrations/components/rankers/jina_rerank/",
}
DISTRIBUTIONS = [*CODE, "jina_rerank_mini"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    builder = [sys.executable, str(ROOT / "scripts" / "build_wheels.py"), str(folder)]
    subprocess.run(builder, check=True, capture_output=True)
    return folder


def wheel(folder: Path, distribution: str) -> zipfile.ZipFile:
    (path,) = folder.glob(f"{distribution}-*.whl")
    return zipfile.ZipFile(path)


def test_there_are_five(wheels: Path) -> None:
    names = sorted(path.name.split("-")[0] for path in wheels.iterdir())
    assert names == sorted(DISTRIBUTIONS)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_metadata_is_what_an_index_expects(wheels: Path, distribution: str) -> None:
    with wheel(wheels, distribution) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
        licences = [n for n in archive.namelist() if ".dist-info/licenses/LICENSE" in n]
        assert b"Apache License" in archive.read(licences[0])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(metadata["Summary"]) > 40
    assert "Source" in str(metadata.get_all("Project-URL"))
    assert metadata.get_all("Classifier")


@pytest.mark.parametrize(("distribution", "package"), CODE.items())
def test_code_is_typed_and_stays_in_its_own_package(
    wheels: Path, distribution: str, package: str
) -> None:
    with wheel(wheels, distribution) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert f"{package}py.typed" in names
    assert all(name.startswith(package) for name in names), "no file in a shared namespace"


def test_which_extras_bring_the_model_and_that_the_bare_core_is_bare(wheels: Path) -> None:
    with wheel(wheels, "jina_rerank") as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        needs = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    core = {need.partition(">=")[0] for need in needs if "extra ==" not in need}
    assert core == {"anyio", "httpx", "tenacity", "tqdm"}
    bring = {need.partition("extra == ")[2].strip("'\"") for need in needs if "rank-mini" in need}
    expected = {
        "cross-encoder",
        "distill",
        "eval",
        "eval-rag",
        "export",
        "local",
        "onnx",
        "ray",
        "transformers",
    }
    assert bring == expected, "most by way of local"


def test_the_core_is_small_and_the_model_has_no_code(wheels: Path) -> None:
    (core,) = wheels.glob("jina_rerank-*.whl")
    assert core.stat().st_size < 1_000_000
    with wheel(wheels, "jina_rerank_mini") as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        assert archive.read("jina_rerank_mini/__init__.py").startswith(b'"""')
        notice = [n for n in archive.namelist() if n.endswith("licenses/NOTICE")]
        assert b"not Jina AI's weights" in archive.read(notice[0])
    assert {Path(name).name for name in names} == {
        "__init__.py",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def create_environment(folder: Path, wheels: Path, *requirements: str) -> Path:
    """An environment with only these; pip gets ours from `wheels` and the rest from its index."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--find-links", wheels]
    done = subprocess.run(
        [*map(str, install), "--constraint", str(constraints), *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if "NewConnectionError" in done.stderr or "Temporary failure in name" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return python


def create_by_container_file(folder: Path, wheels: Path) -> Path:
    """An environment from the RUN steps of deploy/Dockerfile, in this system instead of an image.

    The step that creates the user is left out, since users are this system's.
    """
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    assert steps[-1].startswith("useradd ")
    assert all("/opt/jina-rerank" in step for step in steps[:-1])
    arguments = dict(re.findall(r'^ARG (\w+)="?([^"\n]+)"?$', text, re.MULTILINE))
    environment = (
        os.environ
        | arguments
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        }
    )
    environment.pop("PYTHONPATH", None)
    for step in steps[:-1]:
        # What is downloaded is kept, so that the next run of the tests has it.
        command = step.replace("/opt/jina-rerank", str(folder)).replace("--no-cache-dir", "")
        done = subprocess.run(
            ["sh", "-ec", command], capture_output=True, text=True, check=False, env=environment
        )
        if "NewConnectionError" in done.stderr or "Temporary failure in name" in done.stderr:
            pytest.skip("the package index cannot be reached")
        assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


def run(python: Path, script: str) -> str:
    """The output of a script, which has nothing on standard error; a warning would end it."""
    return run_command([str(python), "-c", script], cwd=python.parent)


def run_command(command: list[str], cwd: Path, stdin: str = "") -> str:
    """Outside the repository and without what this process has in its environment."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HF_HUB_OFFLINE": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "PYTHONWARNINGS": "error",
        },
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_bare_core_says_what_to_install(wheels: Path, tmp_path: Path) -> None:
    python = create_environment(tmp_path / "bare", wheels, "jina-rerank")
    said = run(
        python,
        "from jina_rerank import *\n"
        "from jina_rerank.testing import FakeScorer\n"
        "assert Reranker(FakeScorer()).rank('a', ['b', 'a'])[0].index == 1\n"
        "scorers = [LocalScorer(), CrossEncoderScorer('x'), SageMakerScorer('x')]\n"
        "for scorer in scorers:\n"
        "    try:\n"
        "        scorer.warm_up()\n"
        "    except ConfigurationError as error:\n"
        "        print(error)\n"
        "try:\n"
        "    import jina_rerank.ray\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n",
    )
    local, cross_encoder, sagemaker, ray = said.splitlines()
    assert local.endswith('pip install "jina-rerank[local]"')
    assert cross_encoder.endswith('pip install "jina-rerank[cross-encoder]"')
    assert sagemaker.endswith('pip install "jina-rerank[sagemaker]"')
    assert ray.endswith('pip install "jina-rerank[ray]"')
    with FaultServer() as server:
        remote = f"Reranker(RemoteScorer(base_url={server.url!r})).rank('q', ['a', 'b'])"
        assert run(python, f"from jina_rerank import *; print(len({remote}))") == "2"


RANK = """
from jina_rerank import LocalScorer, OnnxScorer, Reranker

documents = ["Berlin is in Germany.", "Paris is the capital of France. " * 50]
for scorer in {scorers}:
    print(Reranker(scorer).rank("capital of France?", documents)[0].index)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("requirements", "scorers"),
    [
        ([], "[OnnxScorer(), None]"),
        (
            ["torch", "jina-rerank[local]"],
            "[LocalScorer(), LocalScorer(dtype='float32', max_length=64, long_documents='chunk')]",
        ),
    ],
    ids=["server,onnx of the container file", "local"],
)
def test_the_first_result_in_an_extras_own_environment_comes_without_a_warning(
    wheels: Path, tmp_path: Path, requirements: list[str], scorers: str
) -> None:
    if requirements:
        python = create_environment(tmp_path / "extra", wheels, *requirements)
    else:
        python = create_by_container_file(tmp_path / "extra", wheels)
    said = run(python, RANK.format(scorers=scorers))
    assert set(said.splitlines()) == {"1"}
    command = [str(python.with_name("jina-rerank")), "rank", "France?", "--top-n", "1"]
    said = run_command(command, tmp_path, stdin="Berlin\nParis is in France.\n")
    assert '"id": "-:2"' in said
    said = run_command([*command[:1], "models"], tmp_path)
    assert '"name": "jina-rerank-mini"' in said
    if "torch" not in requirements:
        assert run(python, "import importlib.util as u; print(u.find_spec('torch'))") == "None"
        body = {"query": "capital of France?", "documents": ["Berlin.", "Paris is in France."]}
        home = tmp_path / "home"
        home.mkdir()
        with serving(python=python, HOME=str(home), PYTHONDONTWRITEBYTECODE="1") as (_, url):
            until(lambda: is_ready(url))
            answer = httpx.post(f"{url}/v1/rerank", json=body, timeout=60).json()
        assert answer["results"][0]["index"] == 1
        assert list(home.iterdir()) == [], "a root file system may be read-only"


EVERYTHING = """
import warnings

from haystack import Document as HaystackDocument
from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from langchain_core.documents import Document
from langchain_jina_rerank import JinaRerank as LangChain
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.jina_rerank import JinaRerank as LlamaIndex

with warnings.catch_warnings(action="ignore"):  # their own
    from haystack_integrations.components.rankers.jina import JinaRanker as OfficialHaystack
    from langchain_community.document_compressors import JinaRerank as OfficialLangChain
    from llama_index.postprocessor.jinaai_rerank import JinaRerank as OfficialLlamaIndex

query = "What is the capital of France?"
texts = ["Berlin is the capital of Germany.", "Paris is the capital of France."]
nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
print(LlamaIndex(top_n=1).postprocess_nodes(nodes, query_str=query)[0].text)
documents = [Document(page_content=text) for text in texts]
print(LangChain(top_n=1).compress_documents(documents, query)[0].page_content)
documents = [HaystackDocument(content=text) for text in texts]
print(JinaRanker(top_k=1).run(query=query, documents=documents)["documents"][0].content)
assert len({LlamaIndex, OfficialLlamaIndex, LangChain, OfficialLangChain}) == 4
assert JinaRanker is not OfficialHaystack
"""


@pytest.mark.slow
def test_all_of_it_beside_the_official_integrations(wheels: Path, tmp_path: Path) -> None:
    python = create_environment(
        tmp_path / "all",
        wheels,
        "torch",
        "jina-rerank[local,eval,llama-index,langchain,haystack]",
        "jina-haystack",
        "langchain-classic",
        "langchain-community",
        "llama-index-postprocessor-jinaai-rerank",
    )
    assert run(python, EVERYTHING).splitlines() == ["Paris is the capital of France."] * 3
    command = str(python.with_name("jina-rerank"))
    said = run_command(
        [command, "rank", "capital of France?", "--top-n", "1"],
        tmp_path,
        stdin="Berlin is in Germany.\nParis is the capital of France.\n",
    )
    assert '"id": "-:2"' in said
    said = run_command([command, "eval", write_beir(tmp_path / "places")], tmp_path)
    assert "| mini | " in said
