"""What the verbs print that look at a tenant or change its phase."""

from collections.abc import Mapping

from reference.notation import Schema, counts, either, maybe, several, shape
from reference.shared import (
    BACKFILL_STATUS,
    CERTIFICATE,
    CHANGING,
    CHECK,
    COUNT,
    DROP,
    LOOSENED,
    NOTES,
    OVERRIDE,
    PLAN,
    RECALL,
    SWEEPING,
)

_REFUSING = maybe(
    shape("Why.", {"reason": "text | The reason, as in cutover_refused_total.", "why": "text | In a sentence."}),
    "Why traffic is refused; null: it is served.",
)
_PLUGIN = shape(
    "The plugin.",
    {
        "up": "bool | Whether it is healthy.",
        "why": "text | Why not; empty while it is.",
        "version": "text? | The version of the contract that it reports.",
        "breaker": "closed/open/half_open | The breaker before it.",
        "canary": "text | What is wrong with the canary writes; empty: nothing.",
        "recovered_in_seconds": "number? | How long the last recovery took; null: none was needed.",
        "concurrency": shape(
            "Requests towards it.",
            {"limit": "number | At most so many at once, by its latency.", "in_flight": "int | Under way.",
             "waiting": "int | Waiting for their turn."},
        ),
    },
)  # fmt: skip
_ACCESS = shape(
    "Others at agent_memories.",
    {
        "watched_seconds": "number | For how long reads are watched.",
        "writes": "int | Writes past the daemon.",
        "writes_clean_seconds": "number | For how long there was none.",
        "writers": "[text] | Who they were, as `application/role`.",
        "reads": "int | Scans of others.",
        "reads_clean_seconds": "number | For how long there was none.",
        "readers": "[text] | Who they were.",
        "reads_unknown": "text | Why it is not known whether anybody read lately; empty: it is.",
    },
)
STATUS = shape(
    "A tenant.",
    {
        "tenant": "text | Its name.",
        "phase": "phase? | Its phase; null: not confirmed with the database.",
        "meaning?": "text | The phase's name.",
        "epoch?": "int? | Grows by one with every step.",
        "entered_at?": "time? | When the phase was entered.",
        "refusing": _REFUSING,
        "plugin": _PLUGIN,
        "marks": shape(
            "Memories whose delivery is due.",
            {"total": "int | How many.", "by_origin": counts("By what marked them."),
             "oldest_seconds": "number? | Age of the oldest."},
        ),
        "quarantined": "int? | Memories that cannot be placed.",
        "quarantine_blocking": "int? | Of these, not acknowledged.",
        "journal_rows": "int? | Words of A3 that a way back would replay.",
        "in_flight": "int | Requests under way.",
        "drift": maybe(COUNT, "The last count sweep; null: none has ended."),
        "recall": maybe(RECALL, "The last recall sweep; null: none has ended."),
        "override": OVERRIDE,
        "loosened": LOOSENED,
        "changing": CHANGING,
        "digest": maybe(
            shape(
                "The last digest sweep.",
                {
                    "run": "id | The run.",
                    "outcome": "text? | What it came to.",
                    "trusted": "bool? | Whether every planted fault was caught.",
                    "full": "bool? | Every row, or only what was delivered since the sweep before.",
                    "coverage": "number? | Share of the expected rows that was looked at, 0 to 1.",
                    "why": "text? | Why it came to that.",
                    "age_seconds": "number | How long ago it ended.",
                },
            ),
            "The last digest sweep; null: none has ended.",
        ),
        "sweeping": maybe(SWEEPING, "The digest sweep that this daemon is at; null: none."),
        "divergences": maybe(
            shape(
                "Open findings by class.",
                {
                    "suspect": counts("Seen once."),
                    "confirmed": counts("Seen twice."),
                    "repaired": counts("Delivered again, and not yet looked at."),
                    "accepted": counts("Somebody answers for them."),
                    "oldest_seconds": "number? | Age of the oldest confirmed one.",
                },
            ),
            "Open findings; null: not looked at yet.",
        ),
        "backfill": BACKFILL_STATUS,
        "kv": shape("Rows of workspace_memory.", {"switch": "on/off | CUTOVER_KV.",
                                                  "applied": "text? | What this daemon did with it."}),
        "soak": maybe(
            shape(
                "The soak clock of A3.",
                {
                    "green_seconds": "number | Green so far.",
                    "required_seconds": "number | Asked for.",
                    "running": "bool | Whether it runs.",
                    "waits_for": "text | What it waits for; empty while it runs.",
                    "earliest": "time? | When it can be full at the earliest.",
                    "last_reset_why": "text | Why it was set back last; empty: it was not.",
                },
            ),
            "The soak clock; null: not looked at yet.",
        ),
        "access": maybe(_ACCESS, "Others at agent_memories; null: not looked at yet."),
        "drop": maybe(shape("The drop.", DROP), "The drop of A4; null: not looked at yet."),
        "plugin_child_pid": "int? | Process id of the plugin that the daemon runs; null: it runs none.",
        "daemons": several(
            "Every daemon of the tenant that was heard of lately.",
            shape(
                "A daemon.",
                {
                    "id": "text | Its id, new at every start.",
                    "host": "text | The machine it runs on.",
                    "pid": "int | Its process id there.",
                    "version": "text | Its release.",
                    "config_hash": "text | Hash of its settings.",
                    "faces": {
                        "type": "object",
                        "description": "Where its faces listen, by face.",
                        "additionalProperties": {"type": "array", "items": {"type": "string"}},
                    },
                    "started_at": "time | Since when it runs.",
                    "last_seen": "time | When it was heard of last.",
                    "serving": "bool | Whether that was within the last minute.",
                    "me": "bool | Whether it is the one that answers.",
                },
            ),
        ),
    },
)  # fmt: skip
_CHANGED = shape(
    "What the step came to.",
    {
        "tenant": "text | The tenant.",
        "from": "phase | The phase before.",
        "to": "phase | The phase now.",
        "epoch": "int | The epoch that it began.",
        "entered_at": "time | When it was entered.",
        "held_seconds": "number | For how long writes were held.",
        "notes": NOTES,
        "certificate?": CERTIFICATE,
    },
)
_REHEARSAL = shape(
    "How the rehearsal went.",
    {
        "run": "id | The run.",
        "ok": "bool | Whether every row was what it should be.",
        "phase": "phase | The phase that it was made in.",
        "ended_at": "time | When it ended.",
        "age_seconds": "number | How long ago that was.",
        "seconds": "number | How long it took.",
        "held_seconds": "number | Of it, as writes would be held.",
        "rows": "int | Rows that were copied into the scratch schema.",
        "whole": "bool | Whether these are all rows.",
        "words": "int | Words of the journal that were replayed.",
        "invented": "int | Words that were invented for it.",
        "mismatches": "int | Rows that were not what they should be.",
        "why": "text | Why it failed; empty: it did not.",
    },
)
_CHECKED: Mapping[str, str | Schema] = {
    "checks": several("Every check.", CHECK),
    "notes": NOTES,
}

SHAPES: Mapping[str, Schema] = {
    "status": several("Every tenant, or the one that was named.", STATUS),
    "doctor": several(
        "What was looked at.",
        shape(
            "A check.",
            {
                "tenant": "text | The tenant, or `*` for what is the same for all.",
                "check": "text | What was looked at.",
                "status": "fail/warn/skip/pass | What it came to; skip: it cannot be known from here.",
                "found": "text | What was found.",
                "remedy": "text | What to type, or to do; empty where all is well.",
            },
        ),
    ),
    "phase show": shape(
        "Where the tenant stands.",
        {
            "tenant": "text | The tenant.",
            "phase": "phase | Its phase.",
            "meaning": "text | The phase's name.",
            "epoch": "int | Grows by one with every step.",
            "entered_at": "time | When the phase was entered.",
            "override": OVERRIDE,
            "loosened": LOOSENED,
            "changing": CHANGING,
            "next": "phase? | The phase after this one, whose checks follow; null in A4, whose own follow.",
            "gate": "text | What the checks come to.",
            **_CHECKED,
        },
    ),
    "phase check": shape(
        "What the gate came to.",
        {
            "tenant": "text | The tenant.",
            "phase": "phase | Its phase.",
            "target": "phase | The phase whose gate, or whose invariants, were judged.",
            "verdict": "text | In words.",
            "status": "pass/warn/fail | The worst of the checks.",
            **_CHECKED,
        },
    ),
    "phase promote": either("The step, or with --dry-run its plan.", _CHANGED, PLAN),
    "phase rollback": either("The step, or with --dry-run its plan.", _CHANGED, PLAN),
    "phase certify": CERTIFICATE,
    "phase approve": CERTIFICATE,
    "phase certificate": CERTIFICATE,
    "phase certificates": several("Certificates, newest first.", CERTIFICATE),
    "phase rehearse-rollback": either("The last rehearsal, or with --dry-run the plan.", _REHEARSAL, PLAN),
    "phase scream-test": either(
        "The test, or with --dry-run its plan.",
        shape(
            "The test.",
            {
                "freeze": shape(
                    "The freeze.",
                    {
                        "number": "int | Its number.",
                        "mode": "text | `scream`.",
                        "actor": "text | Who asked for it.",
                        "reason": "text | Why.",
                        "over": "bool | Whether it has ended.",
                        "ended_by": "text? | Who ended it; null: it ended by itself.",
                        "since": "time | When it began.",
                        "until": "time? | When it ends by itself.",
                        "ended_at": "time? | When somebody ended it.",
                    },
                ),
                "refused": several(
                    "Who was refused, most attempts first.",
                    shape(
                        "A writer.",
                        {
                            "writer": "text | As `application/role`.",
                            "attempts": "int | Statements that were refused.",
                            "first_seen": "time | The first of them.",
                            "last_seen": "time | The last of them.",
                        },
                    ),
                ),
            },
        ),
        PLAN,
    ),
    "phase refreeze": either(
        "What was mended, or with --dry-run what is wrong.",
        shape(
            "The freeze.",
            {
                "intact": "bool | Whether it is whole now.",
                "number": "int | Its number.",
                "mended": "text | What was wrong with it; empty: nothing.",
            },
        ),
        several("What is wrong.", shape("A fault.", {"fault": "text | In words."})),
    ),
    "phase thaw": either(
        "What was let go, or with --dry-run the plan.",
        shape(
            "The thaw.",
            {
                "thawed": "bool | Whether others may write again.",
                "by": "text | Who let go.",
                "was_in_the_way": "text | What kept others out until now; empty: nothing.",
            },
        ),
        PLAN,
    ),
    "access": shape(
        "Others at agent_memories.",
        {
            "writes": shape(
                "Writes past the daemon, from A1 on.",
                {
                    "watched_seconds": "number | For how long they are watched.",
                    "clean_seconds": "number | For how long there was none.",
                    "count": "int | How many there were.",
                    "by": several(
                        "By writer and operation.",
                        shape(
                            "One.",
                            {
                                "name": "text | As `application/role`.",
                                "operation": "text | INSERT, UPDATE, DELETE, TRUNCATE, or a cascade.",
                                "count": "int | Writes.",
                                "first_seen": "time | The first.",
                                "last_seen": "time | The last.",
                                "next": "text | What to do about it.",
                            },
                        ),
                    ),
                },
            ),
            "reads": shape(
                "Scans of others, in A3 and A4.",
                {
                    "watched_seconds": "number | For how long they are watched.",
                    "clean_seconds": "number | For how long there was none.",
                    "count": "int | How many there were.",
                    "began_with": "text | What watching began with; empty: it does not.",
                    "unknown": "text | Why it is not known whether anybody read lately; empty: it is.",
                    "looked_at": "time? | The last look.",
                    "set_aside": "int | Scans that may have been our own, after a daemon died.",
                    "by": several(
                        "By reader.",
                        shape(
                            "One.",
                            {
                                "name": "text | As `application/role`.",
                                "count": "int | Scans.",
                                "sightings": "int | Looks that saw it at the table.",
                                "first_seen": "time | The first.",
                                "last_seen": "time | The last.",
                                "next": "text | What to do about it.",
                            },
                        ),
                    ),
                },
            ),
        },
    ),
    "audit verify": shape(
        "The record.",
        {
            "ok": "bool | Whether it is whole.",
            "events": "int | How many there are.",
            "phase": "phase? | The phase that it ends with.",
            "epoch": "int? | The epoch that it ends with.",
            "head": "hash? | Hash of the newest event; note it elsewhere.",
            "problem": "text? | What is wrong: changed, missing, inserted, reordered, certificate, guard, phase_row.",
            "event": "int? | The first bad event.",
            "why": "text | In a sentence; empty: nothing is wrong.",
        },
    ),
}
