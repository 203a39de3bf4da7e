"""Schedule: calls something at cron times, in a thread of this process. It knows nothing of what it calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engram_core.domain.errors import InvalidInput, MissingExtra

logger = logging.getLogger("engram")

MISFIRE_S = 3_600
"""How late a call may still be made, for example after the machine slept."""
_FIELDS = 5
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Schedule:
    """A running schedule; `stop` ends it. One call at a time: what comes due meanwhile is made up for once.

    Args:
        job: What to call. What it raises is logged, and the schedule goes on.
        cron: Five fields, minute hour day month weekday (0 and 7 are Sunday), in local time, such as `0 3 * * *`.
            Day and weekday must both fit, where cron takes either.

    Raises:
        InvalidInput: `cron` is malformed.
        MissingExtra: APScheduler is not installed.
    """

    def __init__(self, job: Callable[[], object], cron: str) -> None:
        due = trigger(cron)
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415 - an extra

        self._job = job
        self._scheduler: Any = BackgroundScheduler(daemon=True)
        self._entry: Any = self._scheduler.add_job(
            self.run, due, coalesce=True, max_instances=1, misfire_grace_time=MISFIRE_S
        )
        self._scheduler.start()

    @property
    def next_at(self) -> Any:
        """When it is called next, an aware datetime; None once it was stopped."""
        return self._entry.next_run_time if self._scheduler.running else None

    def stop(self) -> None:
        """End the schedule and wait for a call in progress. May be called twice."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def run(self) -> None:
        """Call it now, in this thread; what it raises is logged."""
        try:
            self._job()
        except Exception:
            logger.exception("engram: a scheduled call failed; the schedule goes on")


def trigger(cron: str) -> Any:
    """When a cron expression is due, as APScheduler has it. Raises InvalidInput, MissingExtra."""
    try:
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra('A schedule needs APScheduler: pip install "engram-agent-memory[schedule]"') from error
    try:
        return CronTrigger.from_crontab(_with_named_days(cron))
    except (ValueError, AttributeError) as error:
        raise InvalidInput(f"{cron!r} is no cron expression such as '0 3 * * *': {error}.") from error


def _with_named_days(cron: str) -> str:
    """The expression with weekdays as names: cron counts from Sunday (0 and 7), APScheduler from Monday."""
    fields = cron.split()
    if len(fields) == _FIELDS:
        fields[-1] = ",".join(map(_days, fields[-1].split(",")))
    return " ".join(fields)


def _days(part: str) -> str:
    """`1-5` as `mon,tue,wed,thu,fri`. What is no number of a weekday is left to the library to judge."""
    span, slash, step = part.partition("/")
    first, _, last = ("0-6" if slash and span == "*" else span).partition("-")
    last = last or ("6" if slash else first)
    if not (first.isdecimal() and last.isdecimal() and int(last) < len(_DAYS)):
        return part
    days = _DAYS[int(first) : int(last) + 1 : int(step) if slash else 1]
    return ",".join(dict.fromkeys(days)) or part
