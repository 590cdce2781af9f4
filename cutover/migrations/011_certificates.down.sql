-- Undoes 011_certificates.
select;
