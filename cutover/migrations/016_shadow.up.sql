-- How the writes of A1 have gone: the gate of A2 asks for the share that failed, and a restart must not forget it.
create table cutover.write_tally (
    epoch      bigint primary key,
    writes     bigint not null default 0 check (writes >= 0),
    errors     bigint not null default 0 check (errors >= 0),
    updated_at timestamptz not null default clock_timestamp()
);
comment on table cutover.write_tally is 'Writes of callers during a stay in A1, and those that failed; every daemon adds what it has seen every few seconds.';
comment on column cutover.write_tally.epoch is 'The epoch of the stay: entering A1 again starts a new count.';
comment on column cutover.write_tally.errors is 'Failed, refused, or not delivered to the plugin within the request, by a fault that was not the caller''s.';
