-- Requests of a batch that go to a provider's batch API together, until their answers are stored.
CREATE TABLE parts (
    id          TEXT    PRIMARY KEY, -- the name of its money too, and of its batch at the provider
    batch       TEXT    NOT NULL REFERENCES batches (id),
    state       TEXT    NOT NULL DEFAULT 'planned', -- then doubted: asked, and nobody knows; then begun
    candidate   TEXT    NOT NULL, -- provider/model
    worst       INTEGER NOT NULL, -- what is reserved for it, in nano-USD
    provider_id TEXT,             -- what the provider calls it, once it has begun
    made_at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX parts_of_a_batch ON parts (batch);

ALTER TABLE requests ADD COLUMN part TEXT;
-- 1 when it was in a part: what that did not answer is asked by itself.
ALTER TABLE requests ADD COLUMN offered INTEGER NOT NULL DEFAULT 0;

CREATE INDEX requests_of_a_part ON requests (part, line) WHERE part IS NOT NULL;
