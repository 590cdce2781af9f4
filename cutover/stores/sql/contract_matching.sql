-- Whether the full text of a content holds all words of a query, as the built-in plugin would say. $1 content, $2 query
SELECT to_tsvector('english', $1::text) @@ plainto_tsquery('english', $2::text)
