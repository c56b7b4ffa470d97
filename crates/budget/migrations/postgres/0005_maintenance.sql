-- What operators tell every gateway: one row while work is refused.
CREATE TABLE maintenance (
    one         BIGINT PRIMARY KEY CHECK (one = 1),
    message     TEXT NOT NULL,
    retry_after BIGINT NOT NULL,
    since       BIGINT NOT NULL
);
