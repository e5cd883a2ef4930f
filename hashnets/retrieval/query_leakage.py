"""Whether a network may have been trained on the queries that it is measured with: its history knows how its data were divided."""

from __future__ import annotations

from ...core.data.split import Split
from ...core.model import HashModel

OWN_TEST_PART = "B"  # a protocol of this name alone draws nothing: the queries are what the source itself holds out


def leakage_warning(model: HashModel, split: Split, *, on: str = "queries") -> str:
    """Return a warning where ``split`` is not what ``model`` was last trained on and may hold its training items as queries.

    ``on`` is ``validation`` where the held-out training items of ``split`` are the queries.
    """
    trained = [step.settings for step in model.history if "digest" in step.settings]
    if not trained:
        return ""
    last = trained[-1]
    name, protocol = str(last.get("data")), last.get("protocol")
    own = _source(name) == _source(split.name) and protocol == split.protocol == OWN_TEST_PART
    if last["digest"] == split.digest or (on == "queries" and (own or last.get("queries") == split.queries.digest)):
        return ""
    return (
        f"the network was trained on {name}, protocol {protocol}, and {split.name}, protocol {split.protocol}, are other "
        f"data or divided otherwise: {on} may be items that it has seen; name the data it was trained on"
    )


def _source(name: str) -> str:
    """Return a data spec without its options."""
    return name.rpartition("?")[0] or name
