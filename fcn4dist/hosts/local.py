"""The session of a job on one host, which agrees with itself."""

from __future__ import annotations

from typing import Any

from fcn4dist.hosts.roster import Go, Layout, Node, Readiness
from fcn4dist.hosts.session import Kind, Say, Session, Verdict


class LocalSession(Session):
    """There is nobody to meet, to wait for or to tell; what happened here is how the job went."""

    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        """Return a job of this host alone."""
        node = Node(name=self.card.host, address=self.card.address, devices=self.card.devices, first_rank=0)
        self.layout = Layout(nodes=[node], run_dir=run_dir)
        return self.layout

    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        """Return this host's word."""
        self._cause = None  # of the attempt before
        return [ready]

    def begin(self, go: Go | None) -> Go:
        """Return the word that was decided here."""
        assert go is not None, "the only host decides"
        return go

    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        """Return how this host's part ended."""
        _, number, text = self.cause
        return Verdict(kind, 0, number if kind == "signal" else None, text if kind == "failure" else "", failure)
