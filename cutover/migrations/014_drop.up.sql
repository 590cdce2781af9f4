-- Archives, and the drop of agent_memories in A4 (architecture §7).
select;
