-- The control plane's own record: procedures, the append-only rule for everybody, the chain of phase events (architecture §8).
select;
