"""Random verbs, faults and clocks on an engine and on the memory engine, which must agree.

Needs `hypothesis`. `check_random_verbs(MyHarness)` runs it. The environment variable
CICELY_EXAMPLES asks for more examples than a test run has time for, for random ones, and for
minutes spent on making a failing one short.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from cicely.testing.conformance.harness import Capability, Harness
from cicely.testing.flow_verbs import FlowMachine
from cicely.testing.reserving_verbs import ReservingMachine
from cicely.testing.workflow_verbs import WorkflowMachine

EXAMPLES: Final = 120
STEPS: Final = 40

#: Those that do the most first.
_VERBS: Final = {Capability.RESERVATIONS: ReservingMachine, Capability.FLOW: FlowMachine}


def check_random_verbs(harness: type[Harness], *, examples: int = EXAMPLES) -> None:
    """Compare the engine behind `harness` with the memory engine, over many random sequences."""
    asked = os.environ.get("CICELY_EXAMPLES")
    run_state_machine_as_test(
        machine_for(harness),
        settings=settings(
            max_examples=int(asked or examples),
            stateful_step_count=STEPS,
            derandomize=asked is None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if asked else [Phase.generate],
            print_blob=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def machine_for(harness: type[Harness]) -> type[WorkflowMachine]:
    """Return the state machine of the engine behind `harness`, with all that the engine promises."""
    verbs = next(
        (of for capability, of in _VERBS.items() if capability in harness.capabilities), WorkflowMachine
    )
    return type("Machine", (verbs,), {"subject": harness})
