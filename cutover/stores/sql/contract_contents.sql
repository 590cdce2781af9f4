-- Where expected rows (rows) belong and what they say: to look for them through the contract. $1 is not used.
SELECT c.id, c.namespace, c.content FROM ({rows}) c WHERE $1::bytea IS NOT NULL AND c.namespace IS NOT NULL
