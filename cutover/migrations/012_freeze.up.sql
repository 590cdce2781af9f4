-- The freeze of agent_memories, and what has been attempted on it (architecture §6).
select;
