"""What came of a run of Autobahn|Testsuite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD = frozenset({"OK", "INFORMATIONAL"})
TOLERATED = frozenset({"NON-STRICT", "UNIMPLEMENTED"})


@dataclass(frozen=True)
class Verdict:
    """A case's two verdicts: of what the server said, and of how the connection ended."""

    behavior: str
    close: str
    milliseconds: int

    @property
    def failed(self) -> bool:
        return not {self.behavior, self.close} <= GOOD | TOLERATED

    @property
    def tolerated(self) -> bool:
        """Whether it did not fail and is not wholly good either."""
        return not self.failed and not {self.behavior, self.close} <= GOOD

    def __str__(self) -> str:
        return self.behavior if self.close in GOOD else f"{self.behavior}, close {self.close}"


@dataclass(frozen=True)
class Report:
    """The verdicts of a run that came to its end.

    `planned` has the ids of the cases asked for, `verdicts` those of the cases that ran,
    `directory` wstest's own report (index.html, and a file for each case).
    """

    planned: Sequence[str]
    verdicts: Mapping[str, Verdict]
    directory: Path
    seconds: float

    @property
    def failed(self) -> dict[str, Verdict]:
        return {case: verdict for case, verdict in self.verdicts.items() if verdict.failed}

    @property
    def tolerated(self) -> dict[str, Verdict]:
        """The cases which were NON-STRICT or UNIMPLEMENTED, and did not fail."""
        return {case: verdict for case, verdict in self.verdicts.items() if verdict.tolerated}

    @property
    def not_run(self) -> list[str]:
        """The cases without a verdict: all from the first that could not connect."""
        return [case for case in self.planned if case not in self.verdicts]

    @property
    def ok(self) -> bool:
        """Whether every case asked for ran, and none failed."""
        return not self.failed and not self.not_run

    def shortfalls(self) -> str:
        """Returns a line for each case that is not wholly good, worst first."""
        lines = [f"{case}: FAILED: {verdict}" for case, verdict in self.failed.items()]
        lines += [f"{case}: NOT RUN" for case in self.not_run]
        lines += [f"{case}: {verdict}" for case, verdict in self.tolerated.items()]
        return "\n".join(lines)

    def summary(self) -> str:
        """Returns one line of counts."""
        counts = Counter(verdict.behavior for verdict in self.verdicts.values())
        counts.update(f"close {verdict.close}" for verdict in self.verdicts.values())
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        return (
            f"{len(self.verdicts)} of {len(self.planned)} cases ran in {self.seconds:.0f} s, "
            f"{len(self.failed)} failed: {told or 'none'}"
        )


def parse(index: Mapping[str, Mapping[str, object]], planned: Sequence[str]) -> dict[str, Verdict]:
    """Returns the verdicts of one server in wstest's index.json, in the order of `planned`."""
    return {
        case: Verdict(
            behavior=str(index[case]["behavior"]),
            close=str(index[case]["behaviorClose"]),
            milliseconds=int(str(index[case]["duration"])),
        )
        for case in planned
        if case in index
    }
