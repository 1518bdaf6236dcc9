"""Metrics of several workers in one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from turnwire.telemetry.gathered import gathered
from turnwire.telemetry.metrics import Metrics


def test_every_sample_says_whose_it_is() -> None:
    """Any sample of any worker is there as it was, with the worker's number beside its labels."""
    workers = {2: Metrics(), 0: Metrics()}
    for metrics in workers.values():
        metrics.error("invalid_json")
        metrics.engine_slots('a {odd} "name"', "running", 3)
    workers[0].error("invalid_json")
    texts = {index: metrics.render() for index, metrics in workers.items()}
    expected = {
        (sample.name, *sorted({**sample.labels, "worker": str(index)}.items())): sample.value
        for index, text in texts.items()
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    families = list(text_string_to_metric_families(gathered(texts).decode()))
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert expected == found
    # A scraper takes a family once.
    assert len(families) == len({family.name for family in families})
