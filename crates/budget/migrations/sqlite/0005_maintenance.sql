-- What operators tell every gateway: one row while work is refused.
CREATE TABLE maintenance (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    message     TEXT NOT NULL,
    retry_after INTEGER NOT NULL,
    since       INTEGER NOT NULL
);
