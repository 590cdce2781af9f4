"""What the verbs print that copy, compare, settle, archive and remove."""

from collections.abc import Mapping

from reference.notation import Schema, counts, either, maybe, several, shape
from reference.shared import COPYING, COUNT, DIGEST, DIGESTED, DROP, PLAN, RECALL, SWEEPING, TABLES

_RUN: Mapping[str, str | Schema] = {
    "run": "id | The run.",
    "kind": "count/digest/recall | Its kind.",
    "state": "running/finished/failed/interrupted/aborted | How it stands.",
    "requested_by": "text | Who, or what, asked for it.",
    "started_at": "time | When it began.",
    "finished_at": "time? | When it ended; null: it runs.",
    "outcome": either(
        "What it came to; null or empty while it runs.",
        COUNT,
        DIGEST,
        RECALL,
        {"type": "null"},
        {"type": "object", "maxProperties": 0},
    ),
}
_FINDING = shape(
    "A finding.",
    {
        "memory_id": "id | The memory.",
        "class": "text | What differs: content, namespace, missing_in_plugin and so on.",
        "state": "suspect/confirmed/repaired/accepted | How certain, or how settled.",
        "source": "memory/native/kv | Where the memory comes from.",
        "namespace": "text? | Where it belongs.",
        "namespace_kind": "workspace/team/org/custom/none | The kind of that.",
        "workspace_id": "id? | The workspace.",
        "writer": "text | Who wrote it last, as far as that is known.",
        "group_id": "text | The likely cause, as in `divergence list --groups`.",
        "first_seen": "time | When it was seen first.",
        "last_seen": "time | When it was seen last.",
        "looked_at": "time | The look that it rests on.",
        "confirmed_at": "time? | When a second look agreed.",
        "onset_after": "time? | The last look without it; null: there was none.",
        "onset_before": "time | The first look with it.",
        "first_run": "id? | The sweep that saw it first.",
        "last_run": "id? | The sweep that saw it last.",
        "expected_hash": "hash? | Hash of what is expected; null: nothing is.",
        "plugin_hash": "hash? | Hash of what the plugin holds; null: nothing.",
        "expected_length": "int? | Length of what is expected, in characters.",
        "plugin_length": "int? | Length of what the plugin holds.",
        "accepted_by": "text? | Who answers for it.",
        "accepted_at": "time? | Since when.",
        "why": "text? | With which reason.",
        "repair_by": "text? | Who had it delivered again.",
        "repair_at": "time? | When.",
        "closed_at": "time? | When it was closed; null: it is open.",
        "closed_by": "text? | What closed it.",
    },
)
_MARK: Schema = maybe(
    {"type": "object", "description": "The mark: origin, attempts, when it is due."},
    "The mark of a delivery that is due; null: none.",
)
_QUARANTINED: Mapping[str, str | Schema] = {
    "memory_id": "id | The memory.",
    "workspace_id": "id? | Its workspace.",
    "reason": "no_workspace/workspace_gone/empty_content/refused_by_plugin/id_taken | Why it cannot be placed.",
    "detail": "text? | What the plugin said, where it was asked.",
    "rev": "int | The state of the memory that this is about.",
    "first_seen": "time | When it was seen first.",
    "last_seen": "time | When it was seen last.",
    "acknowledged_by": "text? | Who answers for it; null: it blocks the cutover.",
    "acknowledged_at": "time? | Since when.",
    "why": "text? | With which reason.",
    "marked": "bool | Whether another delivery is due.",
}
_ONE_QUARANTINED = shape(
    "A memory in quarantine.",
    {
        **_QUARANTINED,
        "mark": _MARK,
        "held_by": "text? | The store that holds it.",
        "scope": "text? | Its scope in v1.",
        "content_length": "int? | Length of its content, in characters.",
        "workspace_known": "bool? | Whether its workspace exists.",
    },
)
_PROCEDURE: Mapping[str, str | Schema] = {
    "name": "text | Its name.",
    "title": "text | Its title.",
    "version": "int | Its version in this tenant's database.",
    "in_force": "bool | Whether runs follow this version.",
    "hash": "hash | sha256 of its text.",
    "package": "text | The release that it came with.",
    "at": "time | Since when.",
}
_ARCHIVED: Mapping[str, str | Schema] = {
    "run": "id | The run.",
    "state": "running/finished/failed/interrupted/aborted | How it stands.",
    "at?": "time | When it began.",
    "why?": "text? | Why it failed.",
    "progress?": maybe({"type": "object", "description": "Step, rows and parts so far."}, "How far it is."),
    "path?": "text | Where it is, on the daemon's machine.",
    "kept?": "int | Parts that an earlier try had finished.",
    "bytes?": "int | Size of its parts.",
    "epoch?": "int | The epoch that it was made in.",
    "parts?": "int | Its files.",
    "phase?": "phase | The phase that it was made in.",
    "sealed?": "hash | Hash of its manifest.",
    "tables?": TABLES,
    "snapshot_at?": "time | The moment that it shows.",
    "legacy_changes?": "int? | Changes of agent_memories so far; more of them later make it stale.",
    "restore_tested?": "bool | Whether it was restored on trial with equal digests.",
}
_DROP = shape(
    "The drop.",
    {
        **DROP,
        "next": "text? | What to do about what blocks it.",
        "dependants": several(
            "What depends on the table, and stops the drop.",
            shape("One.", {"kind": "text | What it is.", "name": "text | Its name."}),
        ),
        "history": several(
            "Every step so far.",
            shape(
                "A step.",
                {
                    "at": "time | When.",
                    "event": "text | What was done.",
                    "relation": "text? | The table's name meanwhile.",
                    "actor": "text | Who.",
                    "detail": "text? | Why.",
                },
            ),
        ),
    },
)
_MIGRATED = several(
    "Migrations that were done, in order.",
    shape(
        "One.",
        {
            "tenant": "text | The tenant.",
            "version": "int | Its number.",
            "name": "text | Its name.",
            "state": "applied/undone | What was done.",
        },
    ),
)

SHAPES: Mapping[str, Schema] = {
    "backfill": either(
        "By mode.",
        COPYING,
        shape(
            "--dry-run: what would be copied.",
            {
                "dry_run": "bool | True.",
                "rows": "int | Rows.",
                "workspaces": "int | Workspaces.",
                "placeable": "int | Rows that can be placed.",
                "quarantine": counts("Rows that cannot, by reason."),
            },
        ),
        shape(
            "--verify: what the comparison came to.",
            {
                **DIGESTED,
                "run": "id | The run.",
                "state": "finished/failed/interrupted | How it ended.",
                "waiting_for": "text | What it waited for; empty: nothing.",
                "progress?": maybe({"type": "object", "description": "How far it is."}, "How far it is."),
                "mismatches": "int | Memories that are not as they should be.",
                "workspaces": several(
                    "By workspace.",
                    shape(
                        "One.",
                        {
                            "workspace": "id? | The workspace; null: memories without one.",
                            "memories": "int | Memories that the plugin should hold.",
                            "mismatches": "int | Of these, not as they should be.",
                            "quarantined": "int | Memories that cannot be placed.",
                        },
                    ),
                ),
                "mismatching": several(
                    "Every mismatch.",
                    shape(
                        "One.",
                        {
                            "id": "id | The memory.",
                            "class": "text | What differs.",
                            "namespace": "text? | Where it belongs.",
                            "workspace?": "id? | Its workspace.",
                            "expected_hash?": "hash? | Hash of what is expected.",
                            "plugin_hash?": "hash? | Hash of what the plugin holds.",
                            "expected_length": "int? | Length of what is expected, in characters.",
                            "plugin_length": "int? | Length of what the plugin holds.",
                        },
                    ),
                ),
            },
        ),
    ),
    "sweep run": either(
        "What it came to.",
        COUNT,
        DIGEST,
        RECALL,
        shape(
            "With --no-wait: the run.",
            {
                "run": "id | The run; `cutover sweep show` says how it goes.",
                "kind": "digest | Its kind.",
                "full": "bool | Every row, or only what changed.",
            },
        ),
    ),
    "sweep list": several("Sweeps, newest first.", shape("A sweep.", _RUN)),
    "sweep show": shape(
        "A sweep.",
        {
            **_RUN,
            "parameters": {"type": "object", "description": "What was asked for."},
            "progress": maybe(
                SWEEPING,
                "How far it is; null: it does not run in the daemon that was asked.",
            ),
            "buckets": maybe(
                {"type": "object", "description": "Buckets of ids: how many, how many differed."},
                "What a full sweep looked at; null: it kept no buckets.",
            ),
            "checkpoint": maybe(
                {"type": "object", "description": "Where it goes on after a crash."},
                "The last checkpoint; null: none.",
            ),
            "found": several(
                "Findings of this sweep by class and state.",
                shape(
                    "One.",
                    {
                        "class": "text | What differs.",
                        "state": "text | How certain, or how settled.",
                        "rows": "int | How many.",
                        "new": "int | Of these, seen first by this sweep.",
                    },
                ),
            ),
        },
    ),
    "divergence list": either(
        "By memory, or with --groups by cause.",
        shape(
            "By memory.",
            {
                "divergences": several("Findings.", _FINDING),
                "next": "text? | --after for the next page; null: this was the last.",
            },
        ),
        shape(
            "By cause.",
            {
                "groups": several(
                    "Causes, most rows first.",
                    shape(
                        "A cause.",
                        {
                            "group": "text | Its name, for --group.",
                            "class": "text | What differs.",
                            "namespace_kind": "text | Where they belong.",
                            "writer": "text | Who wrote them.",
                            "onset_after": "time? | The last look without them.",
                            "onset_before": "time | The first look with them.",
                            "rows": "int | How many.",
                            "states": counts("By state."),
                            "first_seen": "time | The first of them.",
                            "last_seen": "time | The last of them.",
                            "sources": "[text] | Where they come from.",
                            "workspaces": "int | How many workspaces they are of.",
                            "examples": "[id] | Some of them.",
                        },
                    ),
                ),
                "more": "int | Causes that are not shown.",
                "open": {
                    "type": "object",
                    "description": "Open findings by state and class, and when the oldest was confirmed.",
                },
            },
        ),
    ),
    "divergence show": shape(
        "Everything that is known of a memory that differs.",
        {
            "memory_id": "id | The memory.",
            "findings": several("Its findings, newest first.", _FINDING),
            "mark": _MARK,
            "deleted_at": "time? | When it was deleted.",
            "quarantine": maybe(
                {"type": "object", "description": "Reason and since when."}, "Its quarantine; null: it is not in it."
            ),
        },
    ),
    "divergence accept": shape(
        "What was accepted.",
        {
            "accepted": "int | How many findings.",
            "by_class": counts("By class."),
            "refused": several(
                "What was not, and why.",
                shape(
                    "One.",
                    {
                        "memory_id": "id | The memory.",
                        "class": "text? | The class.",
                        "why": "text | Why not.",
                    },
                ),
            ),
        },
    ),
    "divergence repair": shape(
        "What will be delivered once more.",
        {
            "marked": "int | Memories.",
            "by_class": counts("Findings by class."),
            "remaining": "int | Memories that are left for another call.",
            "refused": several(
                "What is left alone, and why.",
                shape("One.", {"class": "text | The class.", "rows": "int | How many.", "why": "text | Why."}),
            ),
            "next": "text | What to do about these; empty: there are none.",
        },
    ),
    "quarantine list": shape(
        "Memories that cannot be placed.",
        {
            "quarantine": several("The memories.", shape("One.", _QUARANTINED)),
            "next": "id? | --after for the next page; null: this was the last.",
            "more": "int | How many are behind this page.",
        },
    ),
    "quarantine show": _ONE_QUARANTINED,
    "quarantine retry": shape(
        "What will be delivered once more.",
        {"marked": "int | Memories.", "remaining": "int | Memories that are left for another call."},
    ),
    "quarantine acknowledge": _ONE_QUARANTINED,
    "procedure list": several(
        "The runbooks in force.",
        shape(
            "A runbook.",
            {
                **_PROCEDURE,
                "versions": "int | How many versions there are.",
                "packaged": "text | How it compares with the one of the daemon's release: same, differs, or missing.",
            },
        ),
    ),
    "procedure show": shape(
        "A runbook.",
        {
            **_PROCEDURE,
            "packaged": "text | How it compares with the one of the daemon's release.",
            "versions": several("All its versions.", shape("One.", _PROCEDURE)),
            "events": several(
                "What happened to it.",
                shape(
                    "One.",
                    {
                        "at": "time | When.",
                        "what": "text | What.",
                        "version": "int? | The version.",
                        "previous": "int? | The version before.",
                        "package": "text | By which release.",
                    },
                ),
            ),
            "body": "text | Its text, in Markdown.",
        },
    ),
    "procedure diff": shape(
        "The difference.",
        {
            "name": "text | The runbook.",
            "from": "int | The version on the left.",
            "to": {"description": "The version on the right, or `packaged`.", "type": ["integer", "string"]},
            "same": "bool | Whether there is none.",
            "diff": "[text] | Lines of a unified diff.",
        },
    ),
    "archive create": shape("The archive; with --no-wait, the run that makes it.", _ARCHIVED),
    "archive list": several("Archives, newest first.", shape("An archive.", _ARCHIVED)),
    "archive verify": either(
        "What is in it, or what is wrong with it.",
        shape(
            "A whole one.",
            {
                "tenant": "text | The tenant.",
                "phase": "phase | The phase that it was made in.",
                "epoch": "int | The epoch.",
                "at": "time | The moment that it shows.",
                "tables": TABLES,
            },
        ),
        several("A damaged one (exit code 3).", shape("A fault.", {"file": "text | Which file.",
                                                                   "problem": "text | What is wrong."})),
    ),
    "archive restore": either(
        "What was brought back, or with --dry-run the plan.",
        shape(
            "The restore.",
            {
                "rows": "int | Rows that are back.",
                "left_out": "int | Rows that were deleted since.",
                "digests_equal": "bool | Whether what was loaded is what was archived.",
                "made_table": "bool | Whether agent_memories had to be made.",
                "notes": "[text] | What else is worth knowing.",
            },
        ),
        PLAN,
    ),
    "drop show": _DROP,
    "drop start": either("The drop, or with --dry-run the plan.", _DROP, PLAN),
    "drop cancel": either("The drop, or with --dry-run the plan.", _DROP, PLAN),
    "retire": shape(
        "What goes, or has gone, and what is in the way.",
        {
            "phase": "phase | The tenant's phase.",
            "triggers": "[text] | Triggers.",
            "tables": "[text] | Tables of schema cutover.",
            "archives": "[text] | Archives, which are kept.",
            "in_the_way": "[text] | What has to be done first; empty: nothing.",
        },
    ),
    "migrate up": _MIGRATED,
    "migrate down": _MIGRATED,
    "migrate status": several(
        "Every migration.",
        shape(
            "One.",
            {
                "tenant": "text | The tenant.",
                "version": "int | Its number.",
                "name": "text | Its name.",
                "state": "applied/missing/changed | Whether it is applied, and still what it was.",
                "applied_at": "time? | Since when.",
            },
        ),
    ),
    "serve": {
        "type": "object",
        "description": "With --check: the settings in force by variable (docs/configuration.md), without secrets.",
        "required": ["tenants", "admins", "config_hash"],
        "properties": {
            "tenants": several("The tenants.", {"type": "object", "description": "Its settings."}),
            "admins": {"type": "array", "items": {"type": "string"}, "description": "Names of the admin tokens."},
            "config_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Hash of all settings."},
        },
        "additionalProperties": {"description": "A setting; what is secret is `***`."},
    },
}  # fmt: skip
