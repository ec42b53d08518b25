-- insert_key: a new caller.
INSERT INTO keys (id, name, secret_hash, created_at) VALUES (:id, :name, :secret_hash, :created_at);

-- key_by_id: the key that a caller presents, unless it was revoked.
SELECT * FROM keys WHERE id = :id AND revoked_at IS NULL;

-- all_keys: also the revoked ones.
SELECT * FROM keys ORDER BY created_at, id;

-- count_keys: whether there ever was a key. Revoking the last one must not open the door to everybody.
SELECT count(*) FROM keys;

-- revoke_key: from now on it opens nothing.
UPDATE keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL;
