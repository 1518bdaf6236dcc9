"""Metrics of several processes as those of one server.

Each process has numbers of its own, and adding them up is for whoever reads them: a sum of
counters is not to shrink when one process is asked later than another. So every sample gets a
label that says whose it is. Text in, text out, in the format of Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["gathered"]


def gathered(texts: Mapping[int, bytes]) -> bytes:
    """Return the metrics of all workers, each sample with a label `worker`.

    Args:
        texts: What `Metrics.render` made in each worker, by its number.
    """
    families: dict[str, list[str]] = {}
    for worker, text in texts.items():
        label = f'worker="{worker}"'
        head = ""
        samples: list[str] = []
        for line in text.decode().splitlines():
            if line.startswith("# HELP "):
                head = line
            elif line.startswith("# TYPE "):
                samples = families.setdefault(f"{head}\n{line}", [])
            else:
                samples.append(_labelled(line, label))
    lines = [line for head, samples in families.items() for line in (head, *samples)]
    return "".join(f"{line}\n" for line in lines).encode()


def _labelled(sample: str, label: str) -> str:
    name, _, value = sample.partition(" ")
    if "{" in name:
        return sample.replace("{", f"{{{label},", 1)
    return f"{name}{{{label}}} {value}"
