-- Certificates and approvals: what a promotion consumes (architecture §6).
select;
