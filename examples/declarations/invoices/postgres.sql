-- Where they go. The owner of the tables is the role that Changeover owns its own by.
CREATE SCHEMA billing AUTHORIZATION changeover_owner;
SET ROLE changeover_owner;
CREATE TABLE billing.invoice (
    number   text COLLATE "C" PRIMARY KEY,
    customer text NOT NULL,
    amount   numeric(10, 2) NOT NULL,
    paid     boolean NOT NULL,
    due      timestamptz NOT NULL,
    token    uuid NOT NULL,
    note     text
);
CREATE TABLE billing.invoice_line (
    number text COLLATE "C" REFERENCES billing.invoice (number),
    line   integer,
    what   jsonb NOT NULL,
    PRIMARY KEY (number, line)
);
RESET ROLE;
