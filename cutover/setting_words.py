"""What each setting is for, in an operator's words. `docs/configuration.md` is made of them (`settings_page`).

They are kept apart from `settings.py`, which says what is valid. A test holds both together: a setting without its
words, or words without a setting, fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """`what` it does and what to know before it is changed; `unit` of a plain number (durations, sizes, files and
    choices tell theirs by themselves); `tenant_key`: its name in the tenants file where a tenant may have its own."""

    what: str
    unit: str = ""
    tenant_key: str = ""


SECTIONS: Mapping[str, Mapping[str, Words]] = {
    "The tenant": {
        "DATABASE_URL": Words(
            "The tenant's database, with `agent_memories`. Its role needs the rights of the "
            "[quick start](quick-start.md#2-role-and-rights). Must be the primary.",
            tenant_key="database_url",
        ),
        "MEMORY_PLUGIN_URL": Words(
            "The memory plugin itself. The daemon is put between workspace-server and this address. The contract has "
            "no authentication: keep it on loopback or a private network.",
            tenant_key="plugin_url",
        ),
        "MEMORY_PLUGIN_DATABASE_URL": Words(
            "The plugin's own tables, for the fast copy and the cheap comparison. Not set: derived from "
            "`DATABASE_URL` with `search_path=memory_plugin,public`. `none`: by its contract only.",
            tenant_key="plugin_database_url",
        ),
        "CUTOVER_TENANT": Words(
            "The tenant's name: label `tenant` of every metric, and part of paths. Renaming it starts new series.",
            tenant_key="name",
        ),
        "CUTOVER_TENANTS_FILE": Words(
            "Several tenants in one daemon, see [below](#several-tenants). `DATABASE_URL`, `MEMORY_PLUGIN_URL` and "
            "`CUTOVER_TENANT` are not used then."
        ),
    },
    "The faces": {
        "CUTOVER_PLUGIN_LISTEN": Words(
            "The plugin face: what workspace-server's `MEMORY_PLUGIN_URL` points at. No authentication by contract; a "
            "warning is logged when it is not loopback or a unix socket."
        ),
        "CUTOVER_MEMORIES_LISTEN": Words(
            "The memories face: the v1 routes and the MCP bridge, for callers that talk to memory directly."
        ),
        "CUTOVER_OPS_LISTEN": Words(
            "The ops face: console, health, metrics and the API that the command line uses. Changing calls need an "
            "admin token."
        ),
        "CUTOVER_OPS_HOSTS": Words(
            "The DNS names by which browsers, scrapers and the command line reach the ops face; `.example.com` is "
            "every name below it. Addresses, `localhost` and names without a dot are always taken. Any other name is "
            "refused: a page of somebody else's could have pointed it here.",
            unit="names, with commas",
        ),
        "CUTOVER_MEMORIES_AUTH": Words(
            "`tokens`: callers of the memories face show a live token of their workspace. `trusted-network`: whoever "
            "reaches it acts as any workspace; allowed on loopback and unix sockets only."
        ),
        "CUTOVER_UPSTREAM_URL": Words(
            "Where the memories face sends paths that are not its own: workspace-server. Not set: they are 404."
        ),
        "CUTOVER_ADMIN_TOKEN": Words(
            "The shared token for changing calls, at least 16 characters. It may be anybody's, so nobody approves with "
            "it, and A3, A4 and overrides are not asked for with it. Not set, and no tokens file: every changing call "
            "is refused."
        ),
        "CUTOVER_ADMIN_TOKENS_FILE": Words(
            'A token per person: TOML, table `[tokens]`, `name = "sha256:<64 hex digits>"` or a reference. A3 and A4 '
            "need three people in it: one asks, two approve. Read at start."
        ),
        "CUTOVER_BODY_LIMIT": Words("The largest body of a request; a larger one is answered 413."),
        "CUTOVER_HEADER_DEADLINE": Words("How long the head of a request may take to arrive; then 408."),
        "CUTOVER_BODY_DEADLINE": Words("How long a body may take to arrive; then 408."),
        "CUTOVER_IDLE_DEADLINE": Words("How long a connection may be kept without a request; then it is closed."),
        "CUTOVER_ANSWER_DEADLINE": Words(
            "The plugin face answers within this. workspace-server gives up at 2 s, and three such failures open its "
            "breaker for a minute: stay below."
        ),
    },
    "The plugin": {
        "MEMORY_PLUGIN_TIMEOUT": Words(
            "How long one request to the plugin may take. What timed out may still have been applied, so it is sent "
            "again only after `CUTOVER_QUARANTINE_SECONDS`."
        ),
        "CUTOVER_PLUGIN_COMMAND": Words(
            "The daemon starts this plugin as its child, watches it and starts it again. Not set: the plugin runs "
            "elsewhere.",
            tenant_key="plugin_command",
        ),
        "MEMORY_PLUGIN_DISABLE": Words("No child is started, even where a command is given."),
        "CUTOVER_BOOT_GATE_SECONDS": Words(
            "From A1 on the daemon waits this long at its start for a healthy plugin, then ends with an error. It "
            "never starts without one and falls back silently."
        ),
        "CUTOVER_PROBE_INTERVAL": Words(
            "Between two health probes. With the next two it decides how soon a dead plugin is seen."
        ),
        "CUTOVER_PROBE_TIMEOUT": Words("How long a probe may take before it counts as failed."),
        "CUTOVER_PROBE_FAILURES": Words("Failed probes in a row that make the plugin count as down.", unit="probes"),
        "CUTOVER_PROBE_SUCCESSES": Words("Good probes in a row that make it count as up again.", unit="probes"),
        "CUTOVER_BREAKER_FAILURES": Words("Failed requests in a row that open the breaker.", unit="requests"),
        "CUTOVER_BREAKER_RATIO": Words(
            "The share of failed requests within the window that opens the breaker.", unit="share, 0 to 1"
        ),
        "CUTOVER_BREAKER_WINDOW": Words("The window in which that share is counted."),
        "CUTOVER_BREAKER_OPEN": Words("The longest pause of an open breaker before it sends a canary to try again."),
    },
    "Writes": {
        "CUTOVER_REFUSE": Words(
            "What is refused while the plugin is unhealthy. `all`: reads and writes. `writes`: reads that legacy "
            "answers completely still pass in A1 and A2."
        ),
        "CUTOVER_QUARANTINE_SECONDS": Words(
            "After an answer that leaves open whether a write was applied, nothing is sent for that memory for so "
            "long. At least `MEMORY_PLUGIN_TIMEOUT`, and longer than a proxy or the plugin could hold a late request."
        ),
        "CUTOVER_DELIVERY_DEADLINE": Words(
            "How long a caller waits for the plugin's part of a write. Then the write is acknowledged as pending: its "
            "mark is durable and it is delivered later. Below `CUTOVER_ANSWER_DEADLINE`."
        ),
        "CUTOVER_MAX_BACKLOG_MARKS": Words(
            "With more undelivered changes than this, new writes are refused until it shrinks.", unit="marks"
        ),
        "CUTOVER_MAX_IN_FLIGHT": Words(
            "Requests per tenant that may be under way; more are refused with 503.", unit="requests"
        ),
        "CUTOVER_RECONCILER_CONCURRENCY": Words(
            "Deliveries to the plugin that the reconciler has under way at once.", unit="requests"
        ),
        "CUTOVER_PHASE_LEASE": Words(
            "A daemon that could not confirm the phase with the database for so long refuses writes. A step waits for "
            "as long, where another daemon is silent."
        ),
        "CUTOVER_POOL_SIZE": Words(
            "Connections per tenant to its database. Above it come one for LISTEN, and a few while sweeps or a "
            "backfill run.",
            unit="connections",
        ),
        "CUTOVER_KNOWN_WRITERS": Words(
            "Application names that `cutover_bypass_writes_total` tells apart; all others count as `other`.",
            unit="names, with commas",
        ),
    },
    "Reads, sweeps and backfill": {
        "CUTOVER_SHADOW_READ_RATIO": Words(
            "The share of reads in A1 and A2 that is repeated on the plugin, off the request path.",
            unit="share, 0 to 1",
        ),
        "CUTOVER_SWEEP_INTERVAL": Words(
            "Between count sweeps. Gates want one that is at most three intervals old, so a longer one makes drift "
            "show later."
        ),
        "CUTOVER_DIGEST_INTERVAL": Words("Between incremental digest sweeps: what was delivered since the last one."),
        "CUTOVER_DIGEST_FULL_INTERVAL": Words("Between full digest sweeps: every memory on both sides."),
        "CUTOVER_SWEEP_CHUNK_SECONDS": Words("What one statement of a sweep should take; its size follows from that."),
        "CUTOVER_SWEEP_LOAD": Words(
            "Of a scheduled sweep's time, the share that may be spent in the databases; it rests in the other.",
            unit="share, 0 to 1",
        ),
        "CUTOVER_SWEEP_MAX_ACTIVE": Words(
            "With more sessions of others at work in the database, a sweep waits.", unit="sessions"
        ),
        "CUTOVER_RECALL_INTERVAL": Words(
            "Between recall sweeps, which repeat reads on both stores. 0: on demand only, then A3's gate needs one by "
            "hand."
        ),
        "CUTOVER_BACKFILL_VIA": Words(
            "How old rows are copied. `database`: by SQL, fast, needs the plugin's tables. `contract`: through the "
            "plugin's API. `auto`: by SQL where it can be."
        ),
        "CUTOVER_BACKFILL_CHUNK_SECONDS": Words(
            "What one chunk of `database` should take at most: a live edit of one of its rows waits for so long."
        ),
        "CUTOVER_BACKFILL_CHUNK": Words(
            "Rows per chunk of `contract`; those of `database` follow the time above.", unit="rows"
        ),
        "CUTOVER_BACKFILL_RATE": Words(
            "The most that is copied per second. 0: the throttle alone decides, by the plugin's latency and the queue.",
            unit="rows per second",
        ),
        "CUTOVER_BACKFILL_QUEUE": Words(
            "The backfill's own marks that may wait for delivery before it makes more.", unit="marks"
        ),
        "CUTOVER_BACKFILL_PAUSE_FILE": Words("While this file exists, a backfill rests. Its directory must exist."),
    },
    "Key/value rows": {
        "CUTOVER_KV": Words(
            "`on`: rows of `workspace_memory` become memories of the plugin too. With several daemons the last to "
            "start decides, so give all the same.",
            tenant_key="kv",
        ),
    },
    "Gates": {
        "CUTOVER_GATE_PLUGIN_HEALTHY": Words("A1: how long the plugin must have been healthy without a break."),
        "CUTOVER_GATE_SHADOW_CLEAN": Words("A2: how long count sweeps must have found no unexplained drift in A1."),
        "CUTOVER_GATE_WRITE_ERRORS": Words(
            "A2: the share of writes since A1 was entered that may have failed.", unit="share, 0 to 1"
        ),
        "CUTOVER_GATE_RECALL_OVERLAP": Words(
            "A3: the overlap of both stores' first ten answers in the last recall sweep.", unit="share, 0 to 1"
        ),
        "CUTOVER_GATE_BYPASS_WINDOW": Words(
            "A3: how long nobody may have written to `agent_memories` past the daemon."
        ),
        "CUTOVER_GATE_REHEARSAL_AGE": Words("A3: how old the last good rehearsal of the way back may be."),
        "CUTOVER_GATE_SOAK": Words("A4: how long A3 must have been green, by the soak clock."),
        "CUTOVER_GATE_FOREIGN_WINDOW": Words("A4: how long nobody else may have read or written `agent_memories`."),
        "CUTOVER_CERTIFICATE_VALIDITY": Words("How long a certificate can be used after it was issued."),
        "CUTOVER_DROP_HOLD": Words(
            "How long the renamed `agent_memories` is kept in A4 before it is dropped: the last way back to it."
        ),
        "CUTOVER_ARCHIVE_DIRECTORY": Words(
            "Where archives go. Every daemon of the tenant must see the same directory, because the gate of A4 looks "
            "at its files; have it backed up."
        ),
    },
    "The process": {
        "CUTOVER_LOG_LEVEL": Words("The least that is logged."),
        "CUTOVER_LOG_FORMAT": Words("`auto`: JSON off a terminal, else lines for people."),
        "CUTOVER_DRAIN_SECONDS": Words(
            "After SIGTERM, how long requests inside may take to finish. Give the supervisor more time than this "
            "before it sends SIGKILL."
        ),
    },
}
"""By variable, in the order in which the page shows them."""

OTHERS: Mapping[str, tuple[str, str]] = {
    "CUTOVER_CONFIG": (
        "/etc/cutover/cutover.toml",
        """A TOML file with any of the settings above, by the same names in either case. The environment and `.env` \
win over it. A name in it that is no setting stops the start.""",
    ),
    "CUTOVER_OPS_URL": (
        "http://127.0.0.1:9202",
        "Where the command line finds the ops face: http, https or `unix:/path`. Not set: `CUTOVER_OPS_LISTEN` says.",
    ),
}
"""Read by the command line or before the settings: example and words by variable."""
