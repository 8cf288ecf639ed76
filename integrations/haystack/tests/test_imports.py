import importlib.util
import json
import subprocess
import sys
import textwrap
from importlib.metadata import files
from pathlib import Path

import haystack_integrations.components.rankers.jina_rerank as package

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
)


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_importing_and_building_one_adds_no_machinery():
    # `import haystack` alone loads torch where it is installed; what counts is what we add.
    added = run(f"""
        import json, sys
        import haystack
        before = set(sys.modules)
        from haystack_integrations.components.rankers.jina_rerank import JinaRanker
        JinaRanker()
        JinaRanker(backend="remote", base_url="http://localhost:1")
        added = set(sys.modules) - before
        print(json.dumps(sorted(added & set({HEAVY!r}))))
        print(json.dumps(sorted(m for m in added if m.startswith("jina_rerank.encoders"))))
    """)
    assert [json.loads(line) for line in added.splitlines()] == [[], []]


def test_it_imports_where_they_are_not_installed_and_a_local_one_is_not_built():
    said = run(f"""
        import sys
        for name in [*{HEAVY!r}, "onnxruntime"]:
            sys.modules[name] = None
        from haystack_integrations.components.rankers.jina_rerank import JinaRanker
        from jina_rerank import ConfigurationError
        try:
            JinaRanker()
        except ConfigurationError as error:
            print(error)
    """)
    assert 'pip install "jina-rerank[local]"' in said
    assert said.strip().endswith('pip install "jina-rerank[onnx]"')


def test_a_service_needs_none_of_them(server):
    answer = run(f"""
        import sys
        for name in {HEAVY!r}:
            sys.modules[name] = None
        from haystack import Document
        from haystack_integrations.components.rankers.jina_rerank import JinaRanker
        ranker = JinaRanker(backend="remote", base_url={server.url!r})
        print(len(ranker.run("q", [Document(content="a")])["documents"]))
    """)
    assert answer == "1\n"
    assert server.received == 1


def test_the_namespaces_above_belong_to_nobody():
    for name in (
        "haystack_integrations",
        "haystack_integrations.components",
        "haystack_integrations.components.rankers",
    ):
        assert importlib.util.find_spec(name).origin is None
    root = Path(package.__file__).parents[3]
    assert root.name == "haystack_integrations"
    ours = {path.relative_to(root).parts[:3] for path in root.rglob("*.py")}
    assert ours == {("components", "rankers", "jina_rerank")}
    assert [path.parent for path in root.rglob("py.typed")] == [Path(package.__file__).parent]


def test_it_lives_beside_the_official_one():
    from haystack_integrations.components.rankers.jina import JinaRanker as Official

    assert files("jina-haystack")
    assert Official is not package.JinaRanker


def test_what_is_public():
    assert package.__all__ == ["JinaRanker", "RankerOutput"]
