"""Measures beside trec_eval and by hand; intervals and tests beside scipy and enumeration."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import pytrec_eval
from scipy import stats

from jina_rerank import ConfigurationError, InputError
from jina_rerank.evaluation import confidence_interval, measure, paired_test

QRELS = {"q": {"a": 0, "b": 2, "c": 1, "missed": 1}}
RUN = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}


def test_by_hand() -> None:
    means = measure(RUN, QRELS).means
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert means == pytest.approx(
        {
            "nDCG@10": (2 / math.log2(3) + 1 / math.log2(4)) / ideal,
            "RR@10": 1 / 2,
            "Success@10": 1,
            "R@10": 2 / 3,
            "AP": (1 / 2 + 2 / 3) / 3,
            "R@100": 2 / 3,
        }
    )


def random_run(generator: np.random.Generator) -> tuple[dict, dict]:
    qrels, run = {}, {}
    for query in map(str, range(20)):
        documents = [f"d{i}" for i in range(150)]
        judged = generator.choice(documents, 12, replace=False)
        qrels[query] = {
            str(d): int(g) for d, g in zip(judged, generator.integers(0, 4, 12), strict=True)
        }
        found = generator.permutation(documents)[:120]
        run[query] = {str(d): float(s) for d, s in zip(found, generator.random(120), strict=True)}
    return qrels, run


def test_as_trec_eval() -> None:
    qrels, run = random_run(np.random.default_rng(0))
    names = {
        "nDCG@10": "ndcg_cut_10",
        "Success@10": "success_10",
        "R@10": "recall_10",
        "AP": "map",
        "R@100": "recall_100",
    }
    judge = pytrec_eval.RelevanceEvaluator(qrels, set(names.values()))
    expected = judge.evaluate(run)
    measured = measure(run, qrels, list(names))
    for ours, theirs in names.items():
        for query in qrels:
            assert measured.per_query[ours][query] == pytest.approx(expected[query][theirs])
    cut = {q: dict(sorted(s.items(), key=lambda d: -d[1])[:10]) for q, s in run.items()}
    reciprocal = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    for query, value in measure(run, qrels, ["RR@10"]).per_query["RR@10"].items():
        assert value == pytest.approx(reciprocal[query]["recip_rank"])


def test_grades_below_minus_1_are_not_relevant() -> None:
    """trec_eval ended the process by a signal, so this is one of its own."""
    script = """
from jina_rerank.evaluation import measure
qrels = {f"q{i}": {f"d{j}": (-2, -1000, 1)[j % (2 + i % 2)] for j in range(9)} for i in range(60)}
run = {query: {f"d{j}": 9.0 - j for j in range(9)} for query in qrels}
print(measure(run, qrels, ["nDCG@10", "AP", "RR@10"]).means)
zero = {q: {d: max(g, 0) for d, g in grades.items()} for q, grades in qrels.items()}
print(measure(run, zero, ["nDCG@10", "AP", "RR@10"]).means)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    negative, zero = done.stdout.splitlines()
    assert negative == zero
    assert "'RR@10': 0.16" in zero


def test_ties_are_taken_as_they_are_ranked() -> None:
    """trec_eval itself would put the later name first."""
    tied = {"q": {"a": 1.0, "z": 1.0}}
    plain = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate(tied)
    assert plain["q"]["recip_rank"] == 0.5
    assert measure(tied, {"q": {"a": 1}}, ["RR@10"]).means == {"RR@10": 1.0}
    assert measure(tied, {"q": {"z": 1}}, ["RR@10"]).means == {"RR@10": 0.5}


def test_every_judged_query_counts_and_no_other() -> None:
    qrels = {**QRELS, "not found": {"b": 1}, "nothing relevant": {"b": 0}, "empty": {"b": 1}}
    run = {**RUN, "nothing relevant": {"b": 1.0}, "empty": {}, "not judged": {"b": 1.0}}
    measured = measure(run, qrels, ["RR@10"])
    assert measured.per_query["RR@10"] == {
        "q": 0.5,
        "not found": 0,
        "nothing relevant": 0,
        "empty": 0,
    }
    assert measured.means == {"RR@10": 0.125}


def test_unknown_measures() -> None:
    for name in ("quality", "nDCG@", "10", ""):
        with pytest.raises(ConfigurationError, match="none that ir-measures knows; try nDCG@10"):
            measure(RUN, QRELS, [name])
    with pytest.raises(InputError, match="nothing to measure"):
        measure(RUN, {})


def test_two_spellings_of_one_measure() -> None:
    assert measure(RUN, QRELS, ["R@10", "Recall@10"]).means.keys() == {"R@10", "Recall@10"}


def test_the_interval_is_the_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).beta(1, 2, 60)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    low, high = confidence_interval(list(values))
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.004)
    assert confidence_interval(list(values)) == (low, high)
    assert confidence_interval(list(values), seed=1) != (low, high)
    narrow = confidence_interval(list(values), level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_intervals_that_have_no_width() -> None:
    assert confidence_interval([0.25]) == (0.25, 0.25)
    assert confidence_interval([1.0] * 40) == (1.0, 1.0)
    for bad in ({"values": []}, {"values": [1.0], "level": 1.0}):
        with pytest.raises(InputError):
            confidence_interval(**bad)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    samples = generator.random((100, 50))
    covered = sum(low <= 0.5 <= high for low, high in map(confidence_interval, samples.tolist()))
    assert 88 <= covered <= 99


def test_the_p_value_is_that_of_all_exchanges() -> None:
    first = [0.1, 0.4, 0.0, 0.9, 0.3, 0.2, 0.5, 0.0]
    second = [0.3, 0.4, 0.5, 0.8, 0.7, 0.3, 0.6, 0.0]
    differences = np.subtract(second, first)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(first))))
    exact = np.mean(np.abs((signs * differences).mean(1)) >= abs(differences.mean()) - 1e-12)
    test = paired_test(first, second)
    assert test.p_value == pytest.approx(exact, abs=0.012)
    assert (test.wins, test.ties, test.losses) == (5, 2, 1)
    assert test.difference == pytest.approx(differences.mean())
    turned = paired_test(second, first)
    assert turned.p_value == test.p_value
    assert (turned.difference, turned.wins) == (-test.difference, test.losses)
    assert paired_test(first, second) == test
    assert paired_test(first, second, seed=3).p_value != test.p_value


def test_the_p_value_beside_scipy() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.random(80), generator.random(80) + 0.08
    reference = stats.permutation_test(
        (second, first),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=9_999,
        rng=np.random.default_rng(7),
    ).pvalue
    test = paired_test(list(first), list(second))
    assert test.p_value == pytest.approx(reference, abs=0.015)


def test_systems_that_are_alike_and_that_are_not() -> None:
    assert paired_test([0.5] * 9, [0.5] * 9).p_value == 1
    assert paired_test([0.0] * 40, [1.0] * 40).p_value == pytest.approx(1 / 10_001)
    for first, second in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(InputError, match="as many values"):
            paired_test(first, second)
