-- Who else reads and writes agent_memories.
select;
