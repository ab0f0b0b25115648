-- What tells on which image another one is built.

-- chain is the ChainID of all layers of an image (image-spec, "Layer ChainID"), its 32 bytes; NULL of anything else.
ALTER TABLE manifest_facts ADD COLUMN chain BLOB;
CREATE INDEX manifest_facts_chain ON manifest_facts (chain) WHERE chain IS NOT NULL;
