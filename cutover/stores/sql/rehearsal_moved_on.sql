-- Which of these memories have been written, or wait for delivery, since the scratch journal was copied.
SELECT i.id FROM unnest($1::uuid[]) AS i (id)
WHERE EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = i.id)
   OR EXISTS (SELECT FROM cutover.journal j WHERE j.memory_id = i.id AND j.state <> 'withdrawn'
              AND j.seq > (SELECT max(s.seq) FROM cutover_rehearsal.journal s WHERE s.memory_id = i.id AND s.namespace <> 'rehearsal'))
