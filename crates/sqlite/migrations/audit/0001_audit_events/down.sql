DROP TABLE audit_retention;
DROP TABLE audit_anchor;
DROP TABLE audit_chain;
DROP TABLE audit_events;
