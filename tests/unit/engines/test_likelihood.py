"""Made-up scores are such as a model could give."""

from __future__ import annotations

from math import exp

from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.likelihood import Likelihood

CANDIDATES = range(100, 200)


@given(
    seed=st.binary(max_size=4),
    position=st.integers(0, 10_000),
    id_=st.integers(0, 300),
    num_top=st.integers(0, 20),
)
def test_scores_are_a_distribution(seed: bytes, position: int, id_: int, num_top: int) -> None:
    """As many alternatives as asked for, the likeliest first, each once; never above certainty."""
    scores = Likelihood(seed, CANDIDATES, num_top).of(position, id_)
    ids, logprobs = [one for one, _ in scores.top], [logprob for _, logprob in scores.top]
    assert num_top == len(set(ids)) == len(ids)
    assert sorted(logprobs, reverse=True) == logprobs
    likely = dict(scores.top) | {id_: scores.logprob}
    assert all(logprob <= 0 for logprob in likely.values())
    assert sum(map(exp, likely.values())) <= 1 + 1e-9
    assert dict(scores.top).get(id_, scores.logprob) == scores.logprob
    if id_ not in ids and logprobs:
        assert scores.logprob <= logprobs[-1]


@given(seed=st.binary(max_size=4), position=st.integers(0, 99), id_=st.integers(0, 300))
def test_more_alternatives_change_nothing(seed: bytes, position: int, id_: int) -> None:
    """The scores with few alternatives are the beginning of those with many."""
    most = Likelihood(seed, CANDIDATES, 20).of(position, id_)
    for num_top in (0, 1, 2, 19):
        fewer = Likelihood(seed, CANDIDATES, num_top).of(position, id_)
        assert (most.logprob, most.top[:num_top]) == (fewer.logprob, fewer.top)


def test_the_sampled_token_is_not_always_the_likeliest() -> None:
    """Over many places it is first mostly, and sometimes second or not in the list at all."""
    likelihood = Likelihood(b"seed", CANDIDATES, 20)
    ranks = set()
    for position in range(300):
        ids = [id_ for id_, _ in likelihood.of(position, 7).top]
        ranks.add(ids.index(7) if 7 in ids else None)
    assert {0, 1, None} == ranks
