"""Shapes that several verbs print."""

from reference.notation import Schema, counts, either, field, maybe, several, shape

PLAN = several(
    "With --dry-run: the ordered steps. Nothing is changed.",
    shape("A step.", {"step": "int | Its place, from 1.", "what": "text | What is done.",
                      "checks?": "[text] | What it looks at first, with how that stands now."}),
)  # fmt: skip
CHECK = shape(
    "A check of a gate.",
    {
        "check": "text | Its id, as in /readyz/checks/{id}.",
        "status": "pass/warn/fail | What it came to; only fail closes a gate.",
        "observed": {
            "description": "What was measured; null where nothing could be.",
            "type": ["boolean", "number", "string", "array", "null"],
            "items": {"type": "string"},
        },
        "unit": "text? | Of what was measured.",
        "threshold": "text? | What is asked for; says so where a setting has loosened it.",
        "reason": "text | Why it came to that.",
        "next": "text | The command that helps; empty where nothing has to be done.",
    },
)
OVERRIDE = maybe(
    shape("The override.", {"why": "text | The reason that was given.", "by": "text | Who asked for it.",
                            "certificate": "hash? | The certificate that was consumed."}),
    "The override that the phase was entered with; null: its gate was open.",
)  # fmt: skip
CHANGING = maybe(
    shape("The change.", {"to": "phase | Where it goes.", "doing": "text | The step that it is at.",
                          "since": "time | When it began."}),
    "The change of phase under way; null: none.",
)  # fmt: skip
LOOSENED = "[text] | Thresholds that settings have loosened, a sentence each."
ROWS = counts("Rows by store and namespace kind, as `legacy.team`.", r"^(legacy|plugin)\.(workspace|team|org|custom)$")
CAUSES = shape(
    "Rows that differ, by cause.",
    {
        "in_flight": "int | A change of them waits for delivery.",
        "not_backfilled": "int | From before A1, and not copied yet.",
        "quarantined": "int | They cannot be placed.",
        "accepted": "int | Somebody answers for the difference.",
        "native": "int | Memories that v1 has no form for.",
        "kv": "int | Rows of workspace_memory that are memories.",
        "unexplained": "int | No cause is known: this is drift.",
    },
)
COUNTED: dict[str, str | Schema] = {
    "outcome": "clean/drift/failed/partial | What it came to.",
    "unexplained": "int | Rows without a cause.",
    "coverage": "number | Share of the rows that were looked at, 0 to 1.",
    "seconds": "number | How long it took.",
    "finished_at": "time | When it ended.",
    "why": "text | Why it came to that; empty where that is plain.",
    "legacy": "int | Rows in legacy.",
    "plugin": "int | Rows in the plugin.",
    "causes": CAUSES,
    "rows": ROWS,
}
COUNT = shape("What a count sweep came to.", COUNTED)
_FAULTS = {kind: f"int | Faults of the kind {kind}." for kind in ("missing", "changed", "extra", "resurrected")}
_BY_CLASS = "by class (content, namespace, missing_in_plugin, …)"
DIGESTED: dict[str, str | Schema] = {
    "run?": "id | The run.",
    "outcome": "clean/divergent/partial/failed/not_applicable | What it came to.",
    "why?": "text | Why; empty where that is plain.",
    "trusted?": "bool | Whether every planted fault was caught and no intact row reported.",
    "full?": "bool | Every row, or only what was delivered since the last sweep.",
    "epoch?": "int | The phase's epoch.",
    "phase?": "phase | The phase.",
    "canary?": shape(
        "The planted faults.",
        {
            "planted": shape("Planted, by kind.", _FAULTS),
            "caught": shape("Caught, by kind.", _FAULTS),
            "false_alarms": "int | Intact rows that were reported.",
        },
    ),
    "chunks?": "int | Ranges of ids that were compared.",
    "mended?": "int | Findings that were gone at the second look.",
    "seconds?": "number | How long it took.",
    "seconds_database?": "number | Of it, in the databases.",
    "seconds_transfer?": "number | Of it, on the way.",
    "seconds_own?": "number | Of it, in the daemon.",
    "throttled_seconds?": "number | Of it, at rest to leave the databases to others.",
    "waiting?": "int | Differences whose second look is still due.",
    "accepted?": counts(f"Accepted differences {_BY_CLASS}."),
    "confirmed?": counts(f"Confirmed differences {_BY_CLASS}."),
    "suspects?": "int | Differences that only one look has seen.",
    "in_flight?": "int | Rows left out because a change of them was under way.",
    "compared?": "int | Rows compared.",
    "coverage?": "number | Share of the expected rows that was looked at, 0 to 1.",
    "expected_rows?": "int | Rows that the plugin should hold.",
    "plugin_rows?": "int | Rows that it holds.",
    "differing_buckets?": "int | Buckets of ids whose digests differed.",
    "snapshot?": "text | PostgreSQL's snapshot at the beginning.",
    "generation?": "text | Version of what is hashed.",
    "via?": "text | `contract` where the plugin's tables could not be reached.",
    "listed?": "int | Contract: namespaces that were listed whole.",
    "sampled?": "int | Contract: memories that were drawn.",
    "sampled_namespaces?": "int | Contract: namespaces that were sampled.",
    "not_findable?": "int | Contract: memories that could not be looked up.",
    "bound_95?": "number? | Contract: with 95 % confidence no larger share of the sampled namespaces' rows differs.",
}
DIGEST = shape("What a digest sweep came to.", DIGESTED)
RECALL = shape(
    "What a recall sweep came to.",
    {
        "run?": "id | The run.",
        "outcome": "clean/divergent/partial/failed/not_applicable | What it came to.",
        "why": "text | Why; empty where that is plain.",
        "phase?": "phase? | The phase.",
        "epoch?": "int? | The phase's epoch.",
        "coverage?": "number | Share of the planned reads that was compared, 0 to 1.",
        "depth?": "int | Places of an answer that are compared.",
        "overlap?": "number? | Share of legacy's answers that the plugin gives, too, 0 to 1.",
        "rank_agreement?": "number? | Kendall's tau-b of the order of both.",
        "reads?": shape(
            "Reads.",
            {
                "planned": "int | To be compared.",
                "compared": "int | Compared.",
                "failed": "int | That a store did not answer.",
                "empty": "int | That neither store had an answer to.",
                "live": "int | That callers had made.",
                "partial": "int | Whose answers were too long to be seen whole.",
                "lower": "int | With an overlap below 1.",
            },
        ),
        "workspaces?": shape("Workspaces.", {"looked_at": "int | Looked at.", "of": "int | That there are."}),
        "left_out?": "int | Memories left out because a change of them was under way.",
        "visibility?": shape(
            "Memories that the stores show to different readers.",
            {
                "plugin_shows_more": "int | Shown by the plugin to who may not see them.",
                "plugin_shows_less": "int | Hidden by the plugin from who may see them.",
                "expected": "int | Differing as the rules of both stores say.",
            },
        ),
        "findings?": several(
            "The first memories that are shown to the wrong readers.",
            shape(
                "One.",
                {
                    "direction": "text | plugin_shows_more or plugin_shows_less.",
                    "memory_id": "id | The memory.",
                    "read": "text | The read that showed it, by a hash.",
                    "kind": "list/search | Its kind.",
                },
            ),
        ),
        "lowest?": several(
            "The reads with the lowest overlap.",
            shape("One.", {"overlap": "number | Its overlap, 0 to 1.", "read": "text | The read, by a hash.",
                           "kind": "list/search | Its kind."}),
        ),
        "seconds?": "number | How long it took.",
    },
)  # fmt: skip
_COPYING: dict[str, str | Schema] = {
    "run": "id | The run.",
    "scope": "text | `tenant`, or the workspace.",
    "requested_by": "text | Who asked for it.",
    "state": "running/paused/finished/failed/aborted/interrupted | How it stands.",
    "via": "contract/database | How rows travel.",
    "via_why": "text | Why so.",
    "total": "int | Rows to look at.",
    "scanned": "int | Looked at.",
    "remaining": "int | Left.",
    "marked": "int | Marked for delivery.",
    "copied": "int | Written by SQL.",
    "unchanged": "int | Held already.",
    "quarantined_by_copy": "int | That cannot be placed.",
    "times_mended": "int | Times of creation set right.",
    "rate_rows_per_second": "number | Lately.",
    "eta_seconds": "number? | Time left; null while unknown.",
    "throttled": "text | What holds it back; empty: nothing.",
    "paused_by": "text | Who paused it; empty: nobody.",
    "why": "text | Why it ended so; empty where that is plain.",
    "limit": "int? | At most so many rows (--limit).",
    "rate_limit": "number? | At most so many per second (--rate).",
    "pause_file": "text? | Rests while this file is there (--pause-file).",
    "complete?": "bool | Whether every row of every workspace has been reached.",
    "quarantine_blocking?": "int | Memories of the tenant in quarantine that nobody has acknowledged.",
}
COPYING = shape("A backfill.", _COPYING)
BACKFILL_STATUS = either(
    "The newest backfill.",
    COPYING,
    shape("There was none.", {"state": "idle | None has run.", "complete": "bool | Whether every row was reached."}),
)
DROP: dict[str, str | Schema] = {
    "state": "none/held/aside/blocked/cancelled/dropped | Where the drop stands.",
    "relation": "text? | The name that agent_memories has meanwhile.",
    "hold_until": "time? | Until when it is held.",
    "remaining_seconds": "number? | How much longer.",
    "since": "time? | Since when the state is so.",
    "actor": "text? | Who did the last step.",
    "blocked": "text? | What keeps the table although the hold is over.",
}
CERTIFICATE: Schema = shape(
    "A certificate.",
    {
        "hash": "hash | Its name.",
        "target": "phase | The phase that it is for.",
        "phase": "phase | The phase that it was issued in.",
        "epoch": "int | The epoch that it was issued in.",
        "requested_by": "text | Who asked for it.",
        "override": "text? | Why it goes past a closed gate; null: the gate was open.",
        "loosened": LOOSENED,
        "failed": "[text] | Checks that fail.",
        "failing": several(
            "The same with what was measured.",
            shape(
                "One.",
                {
                    "id": "text | The check.",
                    "measured": "any | What was measured.",
                    "unit": "text? | Of what was measured.",
                    "threshold": "text? | What is asked for.",
                },
            ),
        ),
        "checks": {
            "type": "object",
            "description": "Every check of the gate with what it came to.",
            "additionalProperties": {"enum": ["pass", "warn", "fail"]},
        },
        "sweeps": several(
            "The sweeps that it rests on.",
            shape(
                "One.",
                {
                    "kind": "count/digest/recall | Its kind.",
                    "run": "id | The run.",
                    "outcome": "text | What it came to.",
                    "unexplained?": "int | Count: rows without a cause.",
                    "trusted?": "bool | Digest: whether the planted faults were caught.",
                    "coverage?": "number? | Digest: share of the rows that was looked at.",
                    "confirmed?": counts("Digest: confirmed differences by class."),
                    "overlap?": "number? | Recall: how alike the answers are, 0 to 1.",
                    "visibility?": counts("Recall: memories shown to different readers, by direction."),
                },
            ),
        ),
        "issued_at": "time | When it was issued.",
        "expires_at": "time | Until when it can be used.",
        "approvals": several("Who stands for it.", shape("One.", {"approver": "text | Who.", "at": "time | When."})),
        "approvals_needed": "int | How many must.",
        "approvals_missing": "int | How many more.",
        "used_in": "int? | The epoch that it began; null: it was not used.",
        "void": "text? | Why it cannot be used; null: it can.",
    },
)
TABLES: Schema = {
    "type": "object",
    "description": "What it holds, by table.",
    "additionalProperties": shape(
        "A table.", {"rows": "int | Its rows.", "digest": "hash | Digest of all of them, in order."}
    ),
}
NOTES = field("[text] | What else is worth knowing, a sentence each.")

SWEEPING = shape(
    "How far it is.",
    {
        "run": "id | The run.",
        "full": "bool | Every row, or only what changed.",
        "compared": "int | Rows compared.",
        "share": "number | Share of the ids, 0 to 1.",
        "rate_rows_per_second": "number | Rate since it began.",
        "suspects": "int | Differences at first look.",
        "throttled": "text? | What it waits for.",
    },
)
