-- $1 text, $2 its embedding, $3 shop or NULL, $4 the least similarity
SELECT knowledge_id, content, category, similarity
FROM check_similar_knowledge($3::integer, $1::text, $2::vector, $4::numeric)
ORDER BY similarity DESC, knowledge_id
