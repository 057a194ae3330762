DROP TABLE changeover_consumer;
DROP TABLE changeover_log;
