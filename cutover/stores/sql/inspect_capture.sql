-- The tenant's phase, and the capture triggers that are not as they should be from A1 on.
select
    s.phase,
    s.epoch,
    (select coalesce(array_agg(c.name order by c.name), '{}') from cutover.capture_state() c where c.intact) as intact,
    (select coalesce(array_agg(c.name order by c.name), '{}') from cutover.capture_state() c where not c.intact) as missing,
    (select coalesce(array_agg(c.name order by c.name), '{}') from cutover.kv_capture_state() c where c.intact) as kv_intact,
    (select c.captured from cutover.kv_capture c) as kv_captured,
    cutover.kv_lacks() as kv_lacks
from cutover.phase_state s
